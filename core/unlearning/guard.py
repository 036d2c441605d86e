"""The utility guard: what unlearning may cost, measured on images it never saw."""

from dataclasses import dataclass

import torch

from core.data.reference import ReferenceSet
from core.evaluation.inverted import worst_flip_rate
from core.evaluation.metrics import accuracy
from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel
from core.report.schema import Utility

#: Further shares of the way back to the suspect that are tried, in this order, while much of the budget is spent.
_BACK = (0.15, 0.3)
#: Accuracies are single-precision ratios: a loss of exactly the budget must not fail by their rounding.
_ROUNDING = 1e-6
#: Share of the budget that is spent without a step further back.
_COMFORT = 0.4
#: Largest flip rate of the worst inverted trigger at which a step back is still acceptable.
_MOST_FLIPS = 0.1


@dataclass(frozen=True, slots=True)
class Guarded:
    """The chosen weights and whether they may be published.

    Attributes:
        model: the candidate.
        utility: before and after, on held-out images.
        accepted: the loss is within the budget, and no inverted trigger was woken by a step back.
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
    """The unlearned weights, or some of the way back to the suspect where the budget asks for it.

    Steps back on which an inverted trigger works again are not taken; then the unlearned weights stand as they are.

    Args:
        suspect: the model before.
        unlearned: the model after.
        triggers: everything that was inverted.
        held_out: images used neither for fitting triggers nor for unlearning.
        budget: largest acceptable loss of utility, a fraction; 0 accepts no loss at all.
    """
    before = accuracy(suspect.target_log_posterior, held_out.pixels, held_out.labels)

    def judge(model: SuspectModel, back: float, most_flips: float) -> Guarded:
        after = accuracy(model.target_log_posterior, held_out.pixels, held_out.labels)
        flips = worst_flip_rate(model, triggers, held_out.pixels, held_out.labels)
        utility = Utility(
            measure="accuracy" if held_out.labelled else "agreement_with_suspect",
            images=len(held_out),
            before=before,
            after=after,
        )
        return Guarded(model, utility, before - after <= budget + _ROUNDING and flips <= most_flips, flips, back)

    best = whole = judge(unlearned, 0.0, 1.0)
    for back in _BACK:
        if before - _after(best) <= _COMFORT * budget:
            break
        candidate = judge(interpolated(unlearned, suspect, back), back, max(_MOST_FLIPS, whole.flip_rate))
        if candidate.accepted and (not best.accepted or _after(candidate) > _after(best)):
            best = candidate
    return best


def _after(guarded: Guarded) -> float:
    after = guarded.utility.after
    assert after is not None
    return after


@torch.no_grad()
def interpolated(start: SuspectModel, end: SuspectModel, share: float) -> SuspectModel:
    """A copy of `start` with its trainable weights moved by `share` of the way to those of `end`."""
    model = start.clone()
    for parameter, target in zip(model.trainable_parameters(), end.trainable_parameters(), strict=True):
        parameter.lerp_(target, share)
    return model
