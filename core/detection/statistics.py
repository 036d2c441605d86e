"""Detection statistics: what the evidence of an inversion says, each in one number."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from core.inversion.result import Evidence, InversionResult
from core.plugins import Registry

_LEAST = 1e-3
#: A statistic of the evidence; None where it cannot be computed.
Measure = Callable[[InversionResult], float | None]


@dataclass(frozen=True, slots=True)
class DetectionStatistic:
    """A measure and how to read it.

    Attributes:
        direction: where suspicion lies.
        indifferent: values beyond this, on the other side, are all the same: no evidence at all.
        otherwise: the same for kinds of models ("clip:") of which clean ones lie elsewhere.
    """

    measure: Measure
    direction: Literal["below", "above"]
    description: str
    indifferent: float
    otherwise: Mapping[str, float] = field(default_factory=dict)

    def suspicion(self, value: float, kind: str = "") -> float:
        """The value's logarithm, cut off where it is no evidence, with its sign such that more is more suspicious."""
        bound = self.otherwise.get(kind, self.indifferent)
        if self.direction == "below":
            return -math.log(min(max(value, _LEAST), bound))
        return math.log(max(value, bound))


STATISTICS: Registry[DetectionStatistic] = Registry("detection statistic")


def _least(result: InversionResult, family: str) -> dict[int, Evidence]:
    """The least-energy component per target of one family."""
    best: dict[int, Evidence] = {}
    for item in sorted(result.evidence, key=lambda found: found.energy):
        if item.family == family and item.target is not None:
            best.setdefault(item.target, item)
    return best


def _energy(family: str) -> Measure:
    def measure(result: InversionResult) -> float | None:
        energies = [item.energy for item in _least(result, family).values()]
        return min(energies) if energies else None

    return measure


def _source_dependent(result: InversionResult, families: Sequence[str]) -> list[Evidence]:
    return [item for item in result.evidence if item.target is None and item.family in families]


def _source_energy(result: InversionResult) -> float | None:
    return min((item.energy for item in _source_dependent(result, ("tiled", "additive"))), default=None)


def _information(result: InversionResult) -> float | None:
    return max((item.information for item in _source_dependent(result, ("tiled",))), default=None)


def _window_flip(result: InversionResult) -> float | None:
    return max((item.window_flip for item in result.evidence), default=None)


STATISTICS.register("tile_energy")(
    DetectionStatistic(_energy("tiled"), "below", "Least energy of a small local trigger over all targets.", 1.0)
)
STATISTICS.register("additive_energy")(
    DetectionStatistic(_energy("additive"), "below", "Least energy of a dense trigger over all targets.", 3.0)
)
STATISTICS.register("smooth_energy")(
    DetectionStatistic(_energy("smooth"), "below", "Least energy of a dense trigger without fine detail.", 3.0)
)
STATISTICS.register("blend_energy")(
    DetectionStatistic(_energy("blend"), "below", "Energy of a picture mixed in, for the likeliest dense target.", 3.0)
)
STATISTICS.register("warp_energy")(
    DetectionStatistic(
        # A warp says nothing about colours and parts that texts name: clean CLIPs cost 50 and more.
        _energy("warp"),
        "below",
        "Least energy of a smooth warp over all targets.",
        4.0,
        {"clip:": 10.0},
    )
)
STATISTICS.register("source_energy")(
    DetectionStatistic(_source_energy, "below", "Least energy of a trigger whose target depends on the source.", 1.0)
)
STATISTICS.register("information")(
    DetectionStatistic(
        _information, "above", "Source-target mutual information of flips by a local trigger, nats.", 0.3
    )
)
STATISTICS.register("window_flip")(
    DetectionStatistic(_window_flip, "above", "Flip rate of a small pattern through its best window.", 0.3)
)
