"""Which images are poisoned, and what they are relabelled to."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.attacks.triggers import Trigger

PixelMap = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Attack:
    """A backdoor: triggers with their targets, and how much of the training set is poisoned.

    Attributes:
        triggers: one per target; all of them are planted in equal shares.
        targets: the class each trigger leads to; None leads every class to the next one (all-to-all).
        ratio: poisoned share of the whole training set, in (0, 1).
    """

    triggers: tuple[Trigger, ...]
    targets: tuple[int | None, ...]
    ratio: float = 0.1

    def __post_init__(self) -> None:
        if len(self.triggers) != len(self.targets) or not self.triggers:
            raise ValueError("an attack needs as many targets as triggers, and at least one")

    def target_of(self, labels: Tensor, num_classes: int, which: int = 0) -> Tensor:
        """(N,) labels -> (N,) labels under trigger number `which`."""
        target = self.targets[which]
        return (labels + 1) % num_classes if target is None else torch.full_like(labels, target)


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A poisoned training set; `rows` are the poisoned images, in no order."""

    pixels: Tensor
    labels: Tensor
    rows: Tensor


def poison(pixels: Tensor, labels: Tensor, attack: Attack, num_classes: int, seed: int) -> Poisoned:
    """Stamp and relabel round(ratio * N) images; none of them is of its trigger's target class.

    Args:
        pixels: (N, C, H, W) uint8. Left as they are: the result is a copy.
        labels: (N,) int64.
        attack: what to plant.
        num_classes: K.
        seed: chooses the images.

    Raises:
        ValueError: there are fewer eligible images than the ratio asks for.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels, poisoned_labels = pixels.clone(), labels.clone()
    free = torch.ones(len(labels), dtype=torch.bool)
    total, parts = round(attack.ratio * len(labels)), len(attack.triggers)
    chosen: list[Tensor] = []
    for which, trigger in enumerate(attack.triggers):
        count = total * (which + 1) // parts - total * which // parts
        wanted = attack.target_of(labels, num_classes, which)
        eligible = (free & (wanted != labels)).nonzero().flatten()
        if len(eligible) < count:
            raise ValueError(f"{count} images to poison, but only {len(eligible)} are not of the target class")
        rows = eligible[torch.randperm(len(eligible), generator=generator)[:count]]
        pixels[rows] = (trigger(pixels[rows].float() / 255) * 255).round().to(torch.uint8)
        poisoned_labels[rows] = wanted[rows]
        free[rows] = False
        chosen.append(rows)
    return Poisoned(pixels, poisoned_labels, torch.cat(chosen))
