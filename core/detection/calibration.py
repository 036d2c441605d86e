"""From statistics to a score and a p-value: how unusual is a suspect among clean models of its kind?

Every statistic is put on a log scale, cut off where it stops being evidence, and standardised on the clean models of a
group. The score is the largest of these deviations. Under the assumption that a clean model's logarithms are normal, a
new clean model's deviation from n known ones follows Student's distribution with n - 1 degrees of freedom, widened by
sqrt(1 + 1/n); Bonferroni's inequality covers the choice of the largest. The threshold is where that bound equals the
false-positive budget, so a small group makes it rise. How often clean models really exceed it is counted by leaving
out one at a time.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from core.detection.statistics import STATISTICS
from core.detection.tails import proportion_interval, student_quantile, student_tail
from core.models.protocol import SuspectModel

CALIBRATION = Path(__file__).with_name("calibration.json")
#: Share of clean models that may be called backdoored.
BUDGET = 0.05
#: A group of fewer clean models than this is pooled with others.
FEWEST_MODELS = 8
#: Standard deviations of logarithms are at least this: searches vary by as much from seed to seed.
LEAST_SPREAD = 0.25
#: The whole reference set, and what a group is called that holds all models of one architecture.
ALL = "all"

#: Statistic name -> value, None where it was not measured.
Values = Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Score:
    """What a calibration says about one suspect.

    Attributes:
        value: the largest deviation over the statistics, in standard deviations; >= 0.
        leading: the statistic that shows it; empty if none was measured.
        levels: the deviation of every statistic that was measured and calibrated.
        threshold: the value from which on a suspect is called backdoored.
        p_value: probability that a clean model of the group scores as high.
        group, models: which clean models, and how many.
        false_positives: how many of them exceed the threshold when left out.
        interval: exact 95 % interval of the false-positive rate that follows.
    """

    value: float
    leading: str
    levels: dict[str, float]
    threshold: float
    p_value: float
    group: str
    models: int
    false_positives: int
    interval: tuple[float, float]


def group_of(model: SuspectModel) -> str:
    """FAMILY/IMAGES: what kind of network it is, and whether it sees grey or colour images."""
    return f"{model.family}/{'grey' if model.input_shape[0] == 1 else 'colour'}"


@dataclass(frozen=True)
class Calibration:
    """Clean models and their statistics.

    Attributes:
        identifier: names this calibration in reports.
        engine: the engine version whose scans these are.
        groups: group -> model -> statistics.
    """

    identifier: str
    engine: str
    groups: Mapping[str, Mapping[str, Values]]

    @classmethod
    def load(cls, path: Path = CALIBRATION) -> "Calibration":
        """The committed calibration, or another of the same form."""
        return cls(**json.loads(path.read_text()))

    def reference(self, group: str) -> tuple[str, dict[str, Values]]:
        """The clean models that a suspect of `group` is compared with, and what they are called.

        Its own group if that is large enough, else all of the same architecture, else all of the same kind.
        """
        architecture = group.partition("/")[0]
        own = dict(self.groups.get(group, {}))
        same = {
            k: v
            for name, models in self.groups.items()
            if name.startswith(f"{architecture}/")
            for k, v in models.items()
        }
        for name, models in ((group, own), (architecture, same)):
            if len(models) >= FEWEST_MODELS:
                return name, models
        kind = kind_of(group)
        alike = [models for name, models in self.groups.items() if kind_of(name) == kind]
        return f"{kind}{ALL}", {key: values for models in alike for key, values in models.items()}

    def score(self, values: Values, group: str, *, without: str | None = None) -> Score:
        """Compare a suspect with the clean models of its group.

        Args:
            values: its statistics.
            group: from `group_of`.
            without: a model to leave out of the comparison.
        """
        name, models = self.reference(group)
        others = [entry for key, entry in models.items() if key != without]
        levels = deviations(values, others, kind_of(group))
        leading = max(levels, key=lambda key: levels[key], default="")
        value = max(0.0, levels.get(leading, 0.0))
        limit = threshold(len(others), len(levels))
        clean = self._left_out(name, group)
        above = sum(other >= value for key, other in clean.items() if key != without)
        hits = sum(other >= limit for other in clean.values())
        return Score(
            value=value,
            leading=leading,
            levels=levels,
            threshold=limit,
            p_value=_p_value(value, above, len(others), len(levels)),
            group=name,
            models=len(others),
            false_positives=hits,
            interval=proportion_interval(hits, len(models)),
        )

    def _left_out(self, name: str, group: str) -> dict[str, float]:
        """Score of every clean model against the others of its group."""
        if name not in self._scores:
            models = self.reference(group)[1]
            self._scores[name] = {
                key: max(
                    deviations(values, [v for k, v in models.items() if k != key], kind_of(group)).values(), default=0.0
                )
                for key, values in models.items()
            }
        return self._scores[name]

    @cached_property
    def _scores(self) -> dict[str, dict[str, float]]:
        return {}


def kind_of(group: str) -> str:
    """ "KIND:" of "KIND:NAME/IMAGES"; empty for classifiers."""
    head, colon, _ = group.rpartition(":")
    return head + colon


def deviations(values: Values, clean: Sequence[Values], kind: str = "") -> dict[str, float]:
    """Statistic -> how many standard deviations of `clean` it lies on the suspicious side of their mean.

    Divided by sqrt(1 + 1/n), so that Student's distribution applies to a new clean model. Statistics that were not
    measured, or on less than three quarters of the clean models, are left out.
    """
    found = {}
    for name in STATISTICS:
        value = values.get(name)
        known = [other for entry in clean if (other := entry.get(name)) is not None]
        if value is not None and len(known) >= max(2.0, 0.75 * len(clean)):
            mean, spread = _normal(name, known, kind)
            found[name] = (STATISTICS.get(name).suspicion(value, kind) - mean) / (
                spread * math.sqrt(1 + 1 / len(known))
            )
    return found


def value_at(name: str, level: float, clean: Sequence[Values], kind: str = "") -> float | None:
    """The value of a statistic that deviates by `level`; None where it was not measured on the clean models."""
    known = [other for entry in clean if (other := entry.get(name)) is not None]
    if len(known) < 2:
        return None
    mean, spread = _normal(name, known, kind)
    suspicion = mean + level * spread * math.sqrt(1 + 1 / len(known))
    return math.exp(suspicion if STATISTICS.get(name).direction == "above" else -suspicion)


def threshold(models: int, statistics: int, budget: float = BUDGET) -> float:
    """The score that a clean model exceeds with probability `budget` at most; infinite without a reference."""
    if models < 2 or statistics == 0:
        return math.inf
    return student_quantile(budget / statistics, models - 1)


def _normal(name: str, known: Sequence[float], kind: str) -> tuple[float, float]:
    """Mean and standard deviation of the suspicion of two or more clean models."""
    suspicion = [STATISTICS.get(name).suspicion(value, kind) for value in known]
    mean = sum(suspicion) / len(suspicion)
    variance = sum((value - mean) ** 2 for value in suspicion) / (len(suspicion) - 1)
    return mean, max(LEAST_SPREAD, math.sqrt(variance))


def _p_value(value: float, above: int, models: int, statistics: int) -> float:
    """The share of clean models that score as high, counting the suspect; beyond the last one, Student's tail."""
    if models < 2 or statistics == 0:
        return 1.0
    if above > 0:
        return (1 + above) / (models + 1)
    return min(1 / (models + 1), statistics * student_tail(value, models - 1))
