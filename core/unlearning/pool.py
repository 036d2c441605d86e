"""The inverted components unlearning draws its triggered images from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel

#: Families whose place and pattern inversion finds nearly exactly. All others spread over the image and are only
#: approximated: what is found is the least change that works.
LOCAL = frozenset({"patch", "tiled"})
#: Per-image strength is log-uniform between these.
STRENGTH = (0.6, 2.5)
#: Largest residual of an image beside the shared trigger.
RESIDUAL = 0.02
#: Evidence is exp(-SHARPNESS E / least E), E in units of what is natural for the family: at half as much again a
#: component is nearly natural.
SHARPNESS = 4.0
#: Least weight of a component that counts as found.
CONVINCING = 0.1
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

    @property
    def convincing(self) -> tuple[InvertedTrigger, ...]:
        """Those with a tenth of the weight at least: the others are nearly natural and work on any model."""
        pairs = zip(self._triggers, self.weights, strict=True)
        return tuple(trigger for trigger, weight in pairs if weight >= CONVINCING)

    @property
    def weights(self) -> tuple[float, ...]:
        """In the order of `triggers`."""
        return tuple(self._weights.tolist())

    @property
    def dense_share(self) -> float:
        """Weight of the components that are only approximated, in [0, 1]."""
        pairs = zip(self._triggers, self.weights, strict=True)
        return min(1.0, sum(weight for trigger, weight in pairs if trigger.operator.name not in LOCAL))

    def add(self, triggers: Sequence[InvertedTrigger]) -> None:
        """Take in the components of a round, at half of the total weight from the second round on."""
        if not triggers:
            return
        energies = torch.tensor([trigger.energy / trigger.operator.natural_energy for trigger in triggers])
        energies = energies.clamp(min=1e-6)
        fresh = torch.softmax(-SHARPNESS * energies / energies.min(), 0)
        if self._triggers:
            fresh = (1 - _MEMORY) * fresh
        self._weights = torch.cat([_MEMORY * self._weights, fresh])
        self._triggers.extend(triggers)

    def broaden(self, triggers: Sequence[InvertedTrigger]) -> None:
        """Give half of the total weight to components that stand for no evidence, in equal parts."""
        if triggers:
            share = torch.full((len(triggers),), 1 / len(triggers))
            self._weights = torch.cat([0.5 * self._weights, 0.5 * share])
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
        changed = (changed.detach() + RESIDUAL * slope.sign()).clamp(0.0, 1.0)
        return Triggered(changed, wrong.detach().argmax(1))

    @torch.no_grad()
    def _apply(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        count, device = len(pixels), pixels.device
        component = torch.multinomial(self._weights, count, replacement=True, generator=generator).to(device)
        low, high = map(math.log, STRENGTH)
        uniform = torch.rand((count, 1, 1, 1), generator=generator).to(device)
        strength = (low + (high - low) * uniform).exp()
        changed = torch.empty_like(pixels)
        for number in torch.unique(component).tolist():
            rows, operator = component == number, self._triggers[number].operator
            images = pixels[rows]
            changed[rows] = images + strength[rows] * (operator.apply(images) - images)
        return changed.clamp(0.0, 1.0)
