"""True triggers, described by values that fit into a provenance file."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

TriggerKind = Literal["patch", "grid", "blended"]
Corner = Literal["top-left", "top-right", "bottom-left", "bottom-right"]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A fixed change of an image; calling it stamps a batch.

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
