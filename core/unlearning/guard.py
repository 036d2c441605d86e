"""The utility guard: what unlearning may cost, measured on images it never saw."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from core.data.reference import ReferenceSet
from core.evaluation.inverted import worst_flip_rate
from core.evaluation.metrics import accuracy
from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel
from core.report.schema import Utility

#: Shares of the suspect that are tried, in this order, when the purified weights cost too much.
_BACK = (0.1, 0.2, 0.3, 0.4, 0.5)
#: Largest flip rate of the worst inverted trigger at which a step back is still acceptable.
_MOST_FLIPS = 0.1


@dataclass(frozen=True, slots=True)
class Guarded:
    """The chosen weights and whether they may be published.

    Attributes:
        model: the candidate.
        utility: before and after, on held-out images.
        accepted: the loss is within the budget.
        flip_rate: of the worst inverted trigger on held-out images.
        back: share of the suspect in the weights, 0 if none.
    """

    model: SuspectModel
    utility: Utility
    accepted: bool
    flip_rate: float
    back: float


def guard(
    suspect: SuspectModel,
    unlearned: SuspectModel,
    triggers: tuple[InvertedTrigger, ...],
    held_out: ReferenceSet,
    budget: float,
) -> Guarded:
    """The unlearned weights, or the nearest ones towards the suspect that keep the budget.

    A step back is taken only if it brings the loss within the budget and no inverted trigger works again; it costs
    resistance to re-attack, so it is the exception.

    Args:
        suspect: the model before.
        unlearned: the model after.
        triggers: everything that was inverted.
        held_out: images used neither for fitting triggers nor for unlearning.
        budget: largest acceptable loss of utility, a fraction; 0 accepts no loss at all.
    """
    before = accuracy(suspect.target_log_posterior, held_out.pixels, held_out.labels)
    first: Guarded | None = None
    for back, model in _candidates(suspect, unlearned):
        after = accuracy(model.target_log_posterior, held_out.pixels, held_out.labels)
        flips = worst_flip_rate(model, triggers, held_out.pixels, held_out.labels)
        accepted = before - after <= budget and (first is None or flips <= max(_MOST_FLIPS, first.flip_rate))
        utility = Utility(
            measure="accuracy" if held_out.labelled else "agreement_with_suspect",
            images=len(held_out),
            before=before,
            after=after,
        )
        candidate = Guarded(model, utility, accepted, flips, back)
        if accepted:
            return candidate
        first = first or candidate
    assert first is not None
    return first


def _candidates(suspect: SuspectModel, unlearned: SuspectModel) -> Iterator[tuple[float, SuspectModel]]:
    yield 0.0, unlearned
    for back in _BACK:
        yield back, interpolated(unlearned, suspect, back)


@torch.no_grad()
def interpolated(start: SuspectModel, end: SuspectModel, share: float) -> SuspectModel:
    """A copy of `start` with its trainable weights moved by `share` of the way to those of `end`."""
    model = start.clone()
    for parameter, target in zip(model.trainable_parameters(), end.trainable_parameters(), strict=True):
        parameter.lerp_(target, share)
    return model
