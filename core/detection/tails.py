"""Tail probabilities and intervals for small reference groups."""

import math
from collections.abc import Callable

_TERMS, _TINY = 200, 1e-300


def incomplete_beta(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b) for x in [0, 1], a and b > 0 (Press et al. 2007, 6.4)."""
    if x <= 0.0 or x >= 1.0:
        return 0.0 if x <= 0.0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - incomplete_beta(1.0 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    value, upper, lower = 1.0, 1.0, 0.0
    for term in range(_TERMS):
        half = term // 2
        if term == 0:
            numerator = 1.0
        elif term % 2 == 0:
            numerator = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        else:
            numerator = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        lower = 1.0 / _away_from_zero(1.0 + numerator * lower)
        upper = _away_from_zero(1.0 + numerator / upper)
        value *= upper * lower
        if abs(1.0 - upper * lower) < 1e-12:
            break
    return front * (value - 1.0)


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def student_tail(t: float, freedom: float) -> float:
    """P(T >= t) of Student's distribution with `freedom` > 0 degrees of freedom."""
    tail = 0.5 * incomplete_beta(freedom / (freedom + t * t), freedom / 2, 0.5)
    return tail if t >= 0 else 1.0 - tail


def student_quantile(tail: float, freedom: float) -> float:
    """The t with P(T >= t) = tail, for tail in (0, 1/2]."""
    high = 1.0
    while student_tail(high, freedom) > tail:
        high *= 2
    return _solve(lambda t: tail - student_tail(t, freedom), 0.0, high)


def proportion_interval(hits: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact (Clopper-Pearson) interval of a proportion: `hits` of `trials` >= 0."""
    if trials == 0:
        return 0.0, 1.0
    side = (1 - confidence) / 2
    low = _solve(lambda p: incomplete_beta(p, hits, trials - hits + 1) - side, 0.0, 1.0) if hits > 0 else 0.0
    rest = trials - hits
    high = _solve(lambda p: incomplete_beta(p, hits + 1, rest) - (1 - side), 0.0, 1.0) if rest > 0 else 1.0
    return low, high


def _solve(rising: Callable[[float], float], low: float, high: float) -> float:
    """Where a rising function crosses zero, by bisection."""
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
