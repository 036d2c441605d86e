"""Which images are poisoned, and what they are relabelled to."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from core.attacks.described import LATER
from core.attacks.triggers import ImageTrigger


@dataclass(frozen=True, slots=True)
class Attack:
    """A backdoor: triggers with their targets, and how much of the training set is poisoned.

    Attributes:
        triggers: one per target; all of them are planted in equal shares.
        targets: the class each trigger leads to; None leads every class to the next one (all-to-all).
        ratio: poisoned share of the whole training set, in (0, 1).
        planted: stamped into training images instead of `triggers`, one for each (Adaptive-Blend); empty: the same.
        covers: stamped in equal shares into further images that keep their labels (the noise mode of WaNet, the
            regularisation samples of Adaptive-Blend).
        cover_ratio: their share of the whole training set.
        clean_label: only images of the target class are poisoned, so that no label changes (SIG).
    """

    triggers: tuple[ImageTrigger, ...]
    targets: tuple[int | None, ...]
    ratio: float = 0.1
    planted: tuple[ImageTrigger, ...] = field(default=(), metadata=LATER)
    covers: tuple[ImageTrigger, ...] = field(default=(), metadata=LATER)
    cover_ratio: float = field(default=0.0, metadata=LATER)
    clean_label: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        if len(self.triggers) != len(self.targets) or not self.triggers:
            raise ValueError("an attack needs as many targets as triggers, and at least one")
        if len(self.planted) not in (0, len(self.triggers)):
            raise ValueError("as many planted triggers as triggers, or none")
        if bool(self.covers) != bool(self.cover_ratio):
            raise ValueError("covers need a ratio, and the ratio covers")
        if self.clean_label and None in self.targets:
            raise ValueError("all-to-all changes labels")

    def target_of(self, labels: Tensor, num_classes: int, which: int = 0) -> Tensor:
        """(N,) labels -> (N,) labels under trigger number `which`."""
        target = self.targets[which]
        return (labels + 1) % num_classes if target is None else torch.full_like(labels, target)


@dataclass(frozen=True, slots=True)
class Poisoned:
    """A poisoned training set.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64.
        rows: the poisoned images, in no order.
        covers: the images that were stamped and kept their labels, in no order.
    """

    pixels: Tensor
    labels: Tensor
    rows: Tensor
    covers: Tensor


def poison(pixels: Tensor, labels: Tensor, attack: Attack, num_classes: int, seed: int) -> Poisoned:
    """Stamp and relabel round(ratio * N) images; none of them is of its trigger's target class (all, if clean-label).

    Args:
        pixels: (N, C, H, W) uint8. Left as they are: the result is a copy.
        labels: (N,) int64.
        attack: what to plant.
        num_classes: K.
        seed: chooses the images.

    Raises:
        ValueError: there are fewer eligible images than the ratios ask for.
    """
    generator = torch.Generator().manual_seed(seed)
    pixels, poisoned_labels = pixels.clone(), labels.clone()
    free = torch.ones(len(labels), dtype=torch.bool)

    def stamp(trigger: ImageTrigger, eligible: Tensor, count: int) -> Tensor:
        among = (free & eligible).nonzero().flatten()
        if len(among) < count:
            side = "" if attack.clean_label else "not "
            raise ValueError(f"{count} images to poison, but only {len(among)} are {side}of the target class")
        rows = among[torch.randperm(len(among), generator=generator)[:count]]
        pixels[rows] = (trigger(pixels[rows].float() / 255) * 255).round().to(torch.uint8)
        free[rows] = False
        return rows

    chosen: list[Tensor] = []
    shares = _shares(round(attack.ratio * len(labels)), len(attack.triggers))
    for which, (trigger, count) in enumerate(zip(attack.planted or attack.triggers, shares, strict=True)):
        wanted = attack.target_of(labels, num_classes, which)
        rows = stamp(trigger, (wanted == labels) if attack.clean_label else (wanted != labels), count)
        poisoned_labels[rows] = wanted[rows]
        chosen.append(rows)
    covers = [torch.empty(0, dtype=torch.long)]
    shares = _shares(round(attack.cover_ratio * len(labels)), len(attack.covers))
    for trigger, count in zip(attack.covers, shares, strict=True):
        covers.append(stamp(trigger, free, count))
    return Poisoned(pixels, poisoned_labels, torch.cat(chosen), torch.cat(covers))


def _shares(total: int, parts: int) -> list[int]:
    """`total` in `parts` that differ by one at most."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]
