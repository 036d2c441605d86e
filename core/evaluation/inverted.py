"""Reading an inverted trigger as an attacker would use it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.evaluation.metrics import predict
from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel


@dataclass(frozen=True, slots=True)
class Goal:
    """Where an inverted trigger sends images: (N,) wanted classes, and (N,) whether the image can be sent there."""

    wanted: Tensor
    counted: Tensor


def goal(trigger: InvertedTrigger, sources: Tensor) -> Goal:
    """The most probable target of each (N,) source class.

    A row of the transition without mass belongs to the target class itself, whose images have nowhere to go.
    """
    transition = trigger.transition.to(sources.device)
    wanted = transition.argmax(1)[sources]
    return Goal(wanted, (transition.sum(1) > 0)[sources] & (wanted != sources))


@torch.no_grad()
def flip_rate(model: SuspectModel, trigger: InvertedTrigger, pixels: Tensor, sources: Tensor) -> float:
    """Share of the images with somewhere to go that the trigger sends there; 0 if there are none.

    Args:
        model: who is asked.
        trigger: as inverted, at strength one.
        pixels: (N, C, H, W) in [0, 1], clean.
        sources: (N,) their classes.
    """
    aim = goal(trigger, sources)
    rows = aim.counted.nonzero().flatten()
    if not len(rows):
        return 0.0
    answers = predict(model.target_log_posterior, trigger.operator.apply(pixels[rows]))
    return float((answers == aim.wanted[rows]).float().mean())


def worst_flip_rate(
    model: SuspectModel, triggers: tuple[InvertedTrigger, ...], pixels: Tensor, sources: Tensor
) -> float:
    """The largest flip rate of any of the triggers; 0 without triggers."""
    return max((flip_rate(model, trigger, pixels, sources) for trigger in triggers), default=0.0)
