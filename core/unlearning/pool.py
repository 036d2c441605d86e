"""The inverted components unlearning draws its triggered images from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel

#: Per-image strength is log-uniform between these. An inverted trigger is the least one that works; a planted one is
#: several times as strong.
STRENGTH = (0.6, 4.0)
#: Largest residual of an image beside the shared trigger.
RESIDUAL = 0.02
#: How much of the weight an older round keeps when a new one comes in.
_MEMORY = 0.5


@dataclass(frozen=True, slots=True)
class Triggered:
    """(B, C, H, W) triggered images in [0, 1] and (B,) the suspect's most probable wrong answer on each."""

    pixels: Tensor
    wanted: Tensor


class TriggerPool:
    """Components of all rounds so far with their evidence weights, which sum to one."""

    def __init__(self) -> None:
        self._triggers: list[InvertedTrigger] = []
        self._weights = torch.empty(0)

    @property
    def triggers(self) -> tuple[InvertedTrigger, ...]:
        """Oldest round first."""
        return tuple(self._triggers)

    def add(self, triggers: Sequence[InvertedTrigger]) -> None:
        """Take in the components of a round, at half of the total weight from the second round on."""
        if not triggers:
            return
        fresh = torch.tensor([trigger.weight for trigger in triggers])
        fresh = fresh / fresh.sum()
        if self._triggers:
            fresh = (1 - _MEMORY) * fresh
        self._weights = torch.cat([_MEMORY * self._weights, fresh])
        self._triggers.extend(triggers)

    def sample(self, suspect: SuspectModel, pixels: Tensor, labels: Tensor, generator: torch.Generator) -> Triggered:
        """Give each image a component drawn by weight, a strength of its own and a one-step residual.

        Args:
            suspect: the model whose backdoor it is; the residual raises its probability of a wrong answer.
            pixels: (B, C, H, W) in [0, 1], clean.
            labels: (B,) their classes.
            generator: source of the randomness.
        """
        changed = self._apply(pixels, generator)
        changed.requires_grad_(True)
        log_posterior = suspect.target_log_posterior(changed)
        right = F.one_hot(labels, log_posterior.shape[1]).bool()
        wrong = log_posterior.masked_fill(right, -torch.inf)
        (slope,) = torch.autograd.grad(wrong.logsumexp(1).sum(), changed)
        pixels = (changed.detach() + RESIDUAL * slope.sign()).clamp(0.0, 1.0)
        return Triggered(pixels, wrong.detach().argmax(1))

    @torch.no_grad()
    def _apply(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        count, device = len(pixels), pixels.device
        component = torch.multinomial(self._weights, count, replacement=True, generator=generator).to(device)
        low, high = math.log(STRENGTH[0]), math.log(STRENGTH[1])
        strength = (low + (high - low) * torch.rand((count, 1, 1, 1), generator=generator)).exp().to(device)
        changed = torch.empty_like(pixels)
        for number in torch.unique(component).tolist():
            rows = component == number
            changed[rows] = self._triggers[number].operator.apply(pixels[rows])
        return (pixels + strength * (changed - pixels)).clamp(0.0, 1.0)
