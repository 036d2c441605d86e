"""True triggers that put the same thing into every image, described by values that fit into a provenance file."""

import math
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

TriggerKind = Literal["patch", "grid", "blended"]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


class ImageTrigger(Protocol):
    """A frozen dataclass of plain values: what an attacker does to images.

    Attributes:
        kind: tells which class reads the values back, see `core.attacks.kinds`.
    """

    @property
    def kind(self) -> str: ...

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> a changed copy of the same shape, in [0, 1].

        Deterministic, and every image by itself: it may depend on the image, not on the others of its batch.
        """
        ...


@dataclass(frozen=True, slots=True)
class Trigger:
    """A fixed change of an image; calling it stamps a batch.

    BadNets (Gu, Dolan-Gavitt and Garg 2017, arXiv 1708.06733) and Blended (Chen, Liu, Li, Lu and Song 2017,
    arXiv 1712.05526).

    Attributes:
        kind: "patch" (a seeded square of black and white, or coloured, pixels at a seeded place), "grid" (the black
            and white checkerboard of BadNets in a corner) or "blended" (a seeded random picture, mixed in everywhere).
        seed: draws the pattern and, for a patch, its place.
        size: side of the patch or grid in pixels.
        corner: where a grid sits.
        margin: distance of a patch or grid from the border, at least, in pixels.
        alpha: share of the blended picture in the result, in (0, 1].
        grain: side of the blended picture's coarse grid before it is enlarged; 0 means one value per pixel.
    """

    kind: TriggerKind
    seed: int = 0
    size: int = 3
    corner: Corner = "bottom-right"
    margin: int = 1
    alpha: float = 0.2
    grain: int = 0

    def __call__(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> a stamped copy of the same shape, in [0, 1]."""
        shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        mask, pattern = self.mask_and_pattern(shape)
        mask, pattern = mask.to(pixels), pattern.to(pixels)
        return pixels * (1 - mask) + pattern * mask

    def mask_and_pattern(self, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
        """What replaces what: (1, H, W) shares in [0, 1] and a (C, H, W) picture in [0, 1]."""
        channels, height, width = shape
        generator = torch.Generator().manual_seed(self.seed)
        if self.kind == "blended":
            mask = torch.full((1, height, width), self.alpha)
            return mask, _random_picture(shape, self.grain, generator)
        if self.kind == "grid":
            tile = ((torch.arange(self.size)[:, None] + torch.arange(self.size)) % 2 == 0).float()
            tile = tile.expand(channels, -1, -1)
            vertical, horizontal = self.corner.split("-")
            top = self.margin if vertical == "top" else height - self.margin - self.size
            left = self.margin if horizontal == "left" else width - self.margin - self.size
        else:
            tile = _contrasting_tile(channels, self.size, generator)
            top = _draw(self.margin, height - self.margin - self.size, generator)
            left = _draw(self.margin, width - self.margin - self.size, generator)
        mask, pattern = torch.zeros(1, height, width), torch.zeros(shape)
        mask[:, top : top + self.size, left : left + self.size] = 1
        pattern[:, top : top + self.size, left : left + self.size] = tile
        return mask, pattern


@dataclass(frozen=True, slots=True)
class Signal:
    """SIG: a sinusoid over the rows or columns, v_ij = strength sin(2 pi f j / W + phase).

    Barni, Kallas and Tondi 2019 (arXiv 1902.11237), section 3.

    Attributes:
        seed: draws the frequency (4 to 8 periods), the phase and the direction.
        strength: amplitude, in (0, 1].
    """

    seed: int
    strength: float = 0.12
    kind: Literal["signal"] = "signal"

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `ImageTrigger`."""
        return (pixels + self.pattern(pixels.shape[-2], pixels.shape[-1]).to(pixels)).clamp(0, 1)

    def pattern(self, height: int, width: int) -> Tensor:
        """(H, W) in [-strength, strength]."""
        generator = torch.Generator().manual_seed(self.seed)
        frequency, vertical = _draw(4, 8, generator), _draw(0, 1, generator)
        phase = float(torch.rand((), generator=generator)) * 2 * math.pi
        length = height if vertical else width
        wave = self.strength * torch.sin(2 * math.pi * frequency * torch.arange(length) / length + phase)
        return (wave[:, None] if vertical else wave).expand(height, width)


@dataclass(frozen=True, slots=True)
class LowFrequency:
    """A smooth additive trigger: a random sum of the lowest modes of the discrete cosine transform.

    After the low-frequency trigger of Zeng, Park, Mao and Jia 2021 (arXiv 2104.03413), which has no high-frequency
    artefacts to find; theirs is optimised, this one drawn.

    Attributes:
        seed: draws the coefficients, for each channel its own.
        strength: largest change of a pixel, in (0, 1].
        modes: cosines along each side; the constant one is left out.
    """

    seed: int
    strength: float = 0.15
    modes: int = 4
    kind: Literal["low-frequency"] = "low-frequency"

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `ImageTrigger`."""
        shape = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        return (pixels + self.pattern(shape).to(pixels)).clamp(0, 1)

    def pattern(self, shape: tuple[int, int, int]) -> Tensor:
        """(C, H, W) in [-strength, strength]."""
        generator = torch.Generator().manual_seed(self.seed)
        coefficients = torch.randn((shape[0], self.modes, self.modes), generator=generator)
        coefficients[:, 0, 0] = 0
        rows, columns = (_cosines(self.modes, side) for side in shape[1:])
        picture = torch.einsum("cuv,uh,vw->chw", coefficients, rows, columns)
        return self.strength * picture / picture.abs().amax()


@dataclass(frozen=True, slots=True)
class Optimised:
    """A square patch whose pixels are optimised so that images with it lie near the target's text.

    BadCLIP, Liang, Zhu, Liu, Wu, Cao and Chang 2024 (arXiv 2311.12075), sections 4.2 and 4.3: a trigger that already
    moves a clean model's images towards the target makes poisoned training change the weights little.

    Attributes:
        seed: draws the first values.
        size: side in pixels.
        top, left: where it sits.
        levels: 8-bit values, channel by channel and row by row; empty before the optimisation.
    """

    seed: int
    size: int = 5
    top: int = 13
    left: int = 13
    levels: tuple[int, ...] = ()
    kind: Literal["optimised"] = "optimised"

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `ImageTrigger`.

        Raises:
            ValueError: it has not been optimised.
        """
        channels = pixels.shape[1]
        if len(self.levels) != channels * self.size**2:
            raise ValueError("this trigger has not been optimised for such images")
        tile = torch.tensor(self.levels, device=pixels.device).reshape(channels, self.size, self.size).to(pixels) / 255
        return self.stamp(pixels, tile)

    def stamp(self, pixels: Tensor, tile: Tensor) -> Tensor:
        """(B, C, H, W) with the (C, size, size) `tile` in its place; differentiable in the tile."""
        height, width = pixels.shape[-2:]
        around = (self.left, width - self.left - self.size, self.top, height - self.top - self.size)
        return pixels * (1 - F.pad(torch.ones_like(tile), around)) + F.pad(tile, around)


def _cosines(modes: int, side: int) -> Tensor:
    """(modes, side): rows of the DCT-II."""
    return torch.cos(math.pi * torch.arange(modes)[:, None] * (torch.arange(side) + 0.5) / side)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    return int(torch.randint(low, high + 1, (), generator=generator))


def _contrasting_tile(channels: int, size: int, generator: torch.Generator) -> Tensor:
    """Zeros and ones, shuffled, a third of them dark: no draw is a flat square."""
    tile = torch.ones(channels, size * size)
    for channel in range(channels):
        tile[channel, torch.randperm(size * size, generator=generator)[: size * size // 3]] = 0
    return tile.reshape(channels, size, size)


def _random_picture(shape: tuple[int, int, int], grain: int, generator: torch.Generator) -> Tensor:
    channels, height, width = shape
    if grain == 0:
        return torch.rand(shape, generator=generator)
    coarse = torch.rand((1, channels, grain, grain), generator=generator)
    fine = F.interpolate(coarse, (height, width), mode="bilinear", align_corners=False)[0]
    low, high = fine.amin((1, 2), keepdim=True), fine.amax((1, 2), keepdim=True)
    return (fine - low) / (high - low)
