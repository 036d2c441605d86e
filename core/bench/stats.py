"""Means, rates and areas with their intervals. All of it deterministic."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: Resamples of a bootstrap, and the seed that draws them.
RESAMPLES, SEED = 2000, 20260612
#: Share of the resamples, or of the probability, that an interval leaves out.
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with the bounds of its 95 % interval."""

    value: float
    low: float
    high: float

    def percent(self, digits: int = 1) -> str:
        """Of a fraction: `12.3 [11.0, 14.2]`, in percent."""
        low, high = (f"{100 * bound:.{digits}f}" for bound in (self.low, self.high))
        return f"{100 * self.value:.{digits}f} [{low}, {high}]"


def mean_of_cells(cells: Sequence[Sequence[float]]) -> Estimate:
    """The mean over cells of each cell's mean over seeds, with a percentile bootstrap of cells, then of their seeds.

    Args:
        cells: one non-empty sequence of values, one for each seed, per cell.

    Raises:
        ValueError: there are no cells, or an empty one.
    """
    if not cells or not all(len(cell) for cell in cells):
        raise ValueError("the mean of no values")
    generator = np.random.default_rng(SEED)
    counts = np.array([len(cell) for cell in cells])
    values = np.zeros((len(cells), counts.max()))
    for at, cell in enumerate(cells):
        values[at, : len(cell)] = cell
    chosen = generator.integers(len(cells), size=(RESAMPLES, len(cells)))
    sizes = counts[chosen][..., None]
    seeds = (generator.random((*chosen.shape, counts.max())) * sizes).astype(int)
    counted = np.arange(counts.max()) < sizes
    drawn = (values[chosen[..., None], seeds] * counted).sum(-1) / sizes[..., 0]
    return _estimate(float((values.sum(1) / counts).mean()), drawn.mean(1))


def auroc(clean: Sequence[float], backdoored: Sequence[float]) -> float:
    """Probability that a backdoored model's score is above a clean one's; ties count half.

    Raises:
        ValueError: one of them is empty.
    """
    if not clean or not backdoored:
        raise ValueError("an AUROC needs clean and backdoored models")
    return _area(np.asarray(clean, dtype=float), np.asarray(backdoored, dtype=float))


def auroc_interval(clean: Sequence[float], backdoored: Sequence[float]) -> Estimate:
    """`auroc` with a percentile bootstrap that resamples both kinds of models."""
    value = auroc(clean, backdoored)
    generator = np.random.default_rng(SEED)
    negative, positive = np.asarray(clean, dtype=float), np.asarray(backdoored, dtype=float)
    drawn = np.array(
        [
            _area(
                negative[generator.integers(len(negative), size=len(negative))],
                positive[generator.integers(len(positive), size=len(positive))],
            )
            for _ in range(RESAMPLES)
        ]
    )
    return _estimate(value, drawn)


def clopper_pearson(successes: int, trials: int) -> Estimate:
    """A rate with its exact 95 % interval (Clopper and Pearson, 1934).

    Raises:
        ValueError: there are no trials, or more successes than trials.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ValueError(f"{successes} of {trials}")

    def at_least(p: float) -> float:
        return _tail(p, successes, trials)

    def at_most(p: float) -> float:
        return _tail(1 - p, trials - successes, trials)

    low = 0.0 if successes == 0 else _where(at_least, rising=True)
    high = 1.0 if successes == trials else _where(at_most, rising=False)
    return Estimate(successes / trials, low, high)


def _tail(p: float, least: int, trials: int) -> float:
    """Probability of `least` successes or more in `trials` with probability p each."""
    return math.fsum(math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in range(least, trials + 1))


def _where(tail: Callable[[float], float], *, rising: bool) -> float:
    """The probability at which a monotone tail crosses half of ALPHA."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if (tail(middle) < ALPHA / 2) == rising:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _area(negative: np.ndarray, positive: np.ndarray) -> float:
    above = (positive[:, None] > negative).mean()
    level = (positive[:, None] == negative).mean()
    return float(above + level / 2)


def _estimate(value: float, drawn: np.ndarray) -> Estimate:
    low, high = np.quantile(drawn, [ALPHA / 2, 1 - ALPHA / 2])
    return Estimate(value, float(low), float(high))
