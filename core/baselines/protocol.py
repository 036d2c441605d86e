"""What a published defence looks like to the benchmark."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel
from core.plugins import Registry


@dataclass(frozen=True, slots=True)
class Purified:
    """What a purifier returns.

    Attributes:
        model: a new model; the suspect stays as it is.
        images: images through a forward and backward pass; a forward pass alone is a third of one.
    """

    model: SuspectModel
    images: int


@dataclass(frozen=True, slots=True)
class Detected:
    """What a detector returns.

    Attributes:
        score: grows with suspicion; comparable between models under one detector.
        target: the class the backdoor leads to, if the detector names one.
        suspicious: the score is over the threshold that the paper gives.
        images: as in `Purified`.
        detail: what the score was made from.
    """

    score: float
    target: int | None
    suspicious: bool
    images: int
    detail: Mapping[str, float]


class Purifier(Protocol):
    """Removes a backdoor of unknown kind with clean images."""

    @property
    def name(self) -> str:
        """As registered."""
        ...

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """Raises UnsupportedError if the method has no meaning for such a network, CanceledError if told to stop."""
        ...


class Detector(Protocol):
    """Tells whether a model has a backdoor."""

    @property
    def name(self) -> str:
        """As registered."""
        ...

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Detected:
        """Raises CanceledError if told to stop."""
        ...


PURIFIERS: Registry[Purifier] = Registry("purifier")
DETECTORS: Registry[Detector] = Registry("detector")
