"""What the defences share: batches of a reference set, descent on them, modes of a network, counting of passes."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import devices
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel

#: Largest shift of an image in a batch, as a share of the shorter side: 4 pixels of 32, as the papers have it.
_SHIFT = 1 / 8


@dataclass(slots=True)
class Passes:
    """Counts images. Forward and backward through weights or pixels is one, forward alone a third."""

    _thirds: int = 0

    def both(self, images: int) -> None:
        """Forward and backward."""
        self._thirds += 3 * images

    def forward(self, images: int) -> None:
        """Forward alone."""
        self._thirds += images

    @property
    def images(self) -> int:
        """Rounded up."""
        return -(-self._thirds // 3)


@dataclass(frozen=True, slots=True)
class Batch:
    """(B, C, H, W) pixels in [0, 1], (B,) labels, share of all steps before this one, (B, D) texts if there are any."""

    pixels: Tensor
    labels: Tensor
    done: float
    texts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


def batches(
    reference: ReferenceSet, *, epochs: int, size: int, generator: torch.Generator, ctx: RunContext
) -> Iterator[Batch]:
    """Shuffled, augmented batches of nearly equal size, at most `size`; each is a point to stop at."""
    count = math.ceil(len(reference) / size)
    for epoch in range(epochs):
        order = torch.randperm(len(reference), generator=generator).to(reference.labels.device)
        for number, rows in enumerate(torch.tensor_split(order, count)):
            done = (epoch * count + number) / (epochs * count)
            ctx.progress(done)
            texts = None if reference.texts is None else reference.texts[rows]
            yield Batch(augmented(reference.pixels[rows], generator), reference.labels[rows], done, texts)
    ctx.progress(1.0)


def augmented(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) in [0, 1] -> each image moved by up to an eighth of the side and mirrored half of the time."""
    count, _, height, width = pixels.shape
    most = max(1, round(_SHIFT * min(height, width)))
    down, right = torch.randint(0, 2 * most + 1, (2, count, 1), generator=generator)
    columns = torch.arange(width).expand(count, -1)
    columns = torch.where(torch.rand((count, 1), generator=generator) < 0.5, columns.flip(1), columns) + right
    rows = torch.arange(height) + down
    padded = F.pad(pixels, (most,) * 4).permute(0, 2, 3, 1)
    device = pixels.device
    picked = padded[
        torch.arange(count, device=device)[:, None, None], rows[:, :, None].to(device), columns[:, None].to(device)
    ]
    return picked.permute(0, 3, 1, 2)


def half_precision(pixels: Tensor) -> contextlib.AbstractContextManager[None]:
    """bfloat16 where the processor has it, for one forward pass; the weights themselves stay in float32.

    To be entered anew for each step: inside, casts of weights are remembered.
    """
    return torch.autocast(pixels.device.type, torch.bfloat16, enabled=devices.has_bfloat16(pixels.device))


@contextlib.contextmanager
def training_mode(model: SuspectModel, seed: int) -> Iterator[None]:
    """Normalisation by batch statistics, which move the running ones; dropout by `seed`; fast memory layout."""
    device = model.trainable_parameters()[0].device
    model.module.to(memory_format=torch.channels_last)
    with torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]):
        torch.manual_seed(seed)
        model.module.train()
        try:
            yield
        finally:
            model.module.eval()
            model.module.to(memory_format=torch.contiguous_format)


@contextlib.contextmanager
def frozen_statistics(module: nn.Module) -> Iterator[None]:
    """Running statistics stay as they are, also in training mode, which then still normalises by the batch."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]
    tracking = [layer.track_running_stats for layer in layers]
    for layer in layers:
        layer.track_running_stats = False
    try:
        yield
    finally:
        for layer, tracks in zip(layers, tracking, strict=True):
            layer.track_running_stats = tracks


def gradients(loss: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """Of a scalar; zero where the loss does not depend on a parameter."""
    return list(torch.autograd.grad(loss, list(parameters), materialize_grads=True))


def descend(
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    steps: Iterator[Batch],
    gradient: Callable[[Batch], Sequence[Tensor]],
) -> None:
    """One step along `gradient` per batch, its learning rate falling to zero along a cosine."""
    group = optimizer.param_groups[0]
    peak = group["lr"]
    for batch in steps:
        group["lr"] = peak * (1 + math.cos(math.pi * batch.done)) / 2
        for parameter, slope in zip(parameters, gradient(batch), strict=True):
            parameter.grad = slope
        optimizer.step()
    optimizer.zero_grad()
