"""Training small classifiers, clean or backdoored, on a CPU in minutes."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.attacks.described import LATER, describe
from core.attacks.poisoning import Attack, poison
from core.models.architectures import build

#: Called after every epoch with (epoch from 1, mean training loss).
OnEpoch = Callable[[int, float], None]
#: Part of a recipe's digest: raise it when the same recipe would no longer give the same kind of model.
TRAINING_VERSION = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything a trained model follows from, besides the machine.

    Attributes:
        name: file name without suffix.
        dataset: as `datasets.Datasets` knows it.
        architecture: canonical name.
        seed: weights, order, augmentation and the poisoned rows.
        attack: None for a clean model.
        epochs: passes over the training set.
        batch_size: images a step.
        lr: peak of the one-cycle schedule.
        weight_decay: on all weights.
        crop: padding of the random crop in pixels; images are also mirrored at random.
        images: training images used, the first so many of a seeded shuffle; None for all.
        hold_out: leave the images of `datasets.HELD_OUT` to the defenders.
        optimizer: "sgd" (Nesterov momentum .9) or "adamw" (networks without batch normalisation).
        bfloat16: train convolutions and products in that precision.
    """

    name: str
    dataset: str
    architecture: str
    seed: int
    attack: Attack | None = None
    epochs: int = 5
    batch_size: int = 128
    lr: float = 0.2
    weight_decay: float = 5e-4
    crop: int = 2
    images: int | None = None
    hold_out: bool = field(default=False, metadata=LATER)
    optimizer: Literal["sgd", "adamw"] = field(default="sgd", metadata=LATER)
    bfloat16: bool = field(default=True, metadata=LATER)

    def to_json(self) -> dict[str, Any]:
        """See `described.describe`."""
        described: dict[str, Any] = describe(self)
        return described

    @property
    def digest(self) -> str:
        """64 hexadecimal digits that change with anything that the trained model follows from."""
        text = json.dumps({"recipe": self.to_json(), "training": TRAINING_VERSION}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Normalization:
    """(x - mean) / std per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> model input."""
        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        return (pixels - mean) / std


NORMALIZATION = {
    "fashion-mnist": Normalization((0.2860,), (0.3530,)),
    "procedural": Normalization((0.45, 0.45, 0.45), (0.25, 0.25, 0.25)),
    "procedural-100": Normalization((0.45, 0.45, 0.45), (0.25, 0.25, 0.25)),
    "cifar10": Normalization((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


def train(
    recipe: Recipe, pixels: Tensor, labels: Tensor, num_classes: int, on_epoch: OnEpoch | None = None
) -> nn.Module:
    """A trained network in evaluation mode.

    The attacker poisons the data set and nothing else: triggers are stamped before augmentation.

    Args:
        recipe: what to train.
        pixels: (N, C, H, W) uint8, clean.
        labels: (N,) int64, clean.
        num_classes: K.
        on_epoch: for progress.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    if recipe.images is not None:
        rows = torch.randperm(len(labels), generator=generator)[: recipe.images]
        pixels, labels = pixels[rows], labels[rows]
    if recipe.attack is not None:
        poisoned = poison(pixels, labels, recipe.attack, num_classes, recipe.seed)
        pixels, labels = poisoned.pixels, poisoned.labels
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        network = build(recipe.architecture, num_classes, pixels.shape[1])
    network = network.to(memory_format=torch.channels_last).train()
    normalize = NORMALIZATION[recipe.dataset]
    optimizer = _optimizer(recipe, network)
    steps = len(labels) // recipe.batch_size
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, recipe.epochs * steps, pct_start=0.25)
    padded = F.pad(pixels, (recipe.crop,) * 4)
    for epoch in range(recipe.epochs):
        total = 0.0
        order = torch.randperm(len(labels), generator=generator)
        for batch in torch.split(order[: steps * recipe.batch_size], recipe.batch_size):
            views = augment(padded[batch], recipe.crop, generator)
            # bfloat16 and channels_last train convolutional networks more than twice as fast, at the same accuracy.
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                loss = F.cross_entropy(network(normalize(views)).float(), labels[batch])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        if on_epoch is not None:
            on_epoch(epoch + 1, total / steps)
    return network.to(memory_format=torch.contiguous_format).eval()


def _optimizer(recipe: Recipe, network: nn.Module) -> torch.optim.Optimizer:
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        network.parameters(), lr=recipe.lr, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay
    )


def augment(padded: Tensor, crop: int, generator: torch.Generator, mirror: bool = True) -> Tensor:
    """A random crop and, half of the time, mirror image of each padded image.

    Args:
        padded: (B, C, H + 2 crop, W + 2 crop) uint8.
        crop: how much of it is padding, on every side.
        generator: source of the randomness.
        mirror: False for crops alone.

    Returns:
        (B, C, H, W) float32 in [0, 1], channels last in memory.
    """
    count, _, height, width = padded.shape
    height, width = height - 2 * crop, width - 2 * crop
    top = torch.randint(0, 2 * crop + 1, (count, 1), generator=generator)
    left = torch.randint(0, 2 * crop + 1, (count, 1), generator=generator)
    columns = torch.arange(width).expand(count, -1)
    if mirror:
        mirrored = torch.rand((count, 1), generator=generator) < 0.5
        columns = torch.where(mirrored, columns.flip(1), columns)
    columns = columns + left
    rows = torch.arange(height) + top
    # Advanced indices on both sides of a slice come first: (B, H, W, C).
    picked = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return picked.permute(0, 3, 1, 2).float() / 255
