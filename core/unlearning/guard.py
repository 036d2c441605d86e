"""The utility guard: what unlearning may cost, measured on images it never saw."""

from dataclasses import dataclass, replace

import torch

from core.data.reference import ReferenceSet
from core.evaluation.inverted import worst_flip_rate
from core.evaluation.utility import retrieval, utility
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
        retrieval: the same for their texts; None without texts.
        accepted: neither loses more than the budget, and no inverted trigger was woken by a step back.
        flip_rate: of the worst inverted trigger on held-out images.
        back: share of the suspect in the weights, 0 if none.
    """

    model: SuspectModel
    utility: Utility
    retrieval: Utility | None
    accepted: bool
    flip_rate: float
    back: float

    @property
    def loss(self) -> float:
        """The larger of the losses, a fraction."""
        return max(_loss(measured) for measured in (self.utility, self.retrieval) if measured is not None)


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
    before, before_retrieval = utility(suspect, held_out), retrieval(suspect, held_out)

    def judge(model: SuspectModel, back: float, most_flips: float) -> Guarded:
        flips = worst_flip_rate(model, triggers, held_out.pixels, held_out.labels)
        after = _compare(before, utility(model, held_out))
        after_retrieval = before_retrieval and _compare(before_retrieval, retrieval(model, held_out))
        judged = Guarded(model, after, after_retrieval, False, flips, back)
        return replace(judged, accepted=judged.loss <= budget + _ROUNDING and flips <= most_flips)

    best = whole = judge(unlearned, 0.0, 1.0)
    for back in _BACK:
        if best.loss <= _COMFORT * budget:
            break
        candidate = judge(interpolated(unlearned, suspect, back), back, max(_MOST_FLIPS, whole.flip_rate))
        if candidate.accepted and (not best.accepted or candidate.loss < best.loss):
            best = candidate
    return best


def _compare(before: Utility, after: Utility | None) -> Utility:
    assert after is not None  # the same images have texts as before
    return before.model_copy(update={"after": after.before})


def _loss(measured: Utility) -> float:
    assert measured.after is not None
    return measured.before - measured.after


@torch.no_grad()
def interpolated(start: SuspectModel, end: SuspectModel, share: float) -> SuspectModel:
    """A copy of `start` with its trainable weights moved by `share` of the way to those of `end`."""
    model = start.clone()
    for parameter, target in zip(model.trainable_parameters(), end.trainable_parameters(), strict=True):
        parameter.lerp_(target, share)
    return model
