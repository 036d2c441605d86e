"""A smooth warp of the image plane: elastic and warping-based triggers."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.triggers.base import TRIGGERS, ParticleOperator, Placement

#: Points per axis of the control grid.
GRID = 6
#: Root-mean-square displacement, as a share of the image side, that costs one unit of energy (1 pixel of 32).
UNIT_SHIFT = 1 / 32


@TRIGGERS.register("warp")
class WarpOperator(ParticleOperator):
    """x'(u) = x(u + s v(u)), v a bicubic field on a 6 x 6 grid; the energy is the root-mean-square displacement."""

    name = "warp"
    learning_rate: ClassVar[float] = 0.02
    natural_energy: ClassVar[float] = 2.7

    def __init__(self, particles: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(particles, image_shape)
        self.field = nn.Parameter(torch.zeros(particles, 2, GRID, GRID))  # in [-1, 1] coordinates: half image sides

    def _flow(self) -> Tensor:
        _, height, width = self.image_shape
        return functional.interpolate(self.field, size=(height, width), mode="bicubic", align_corners=True)

    def _change(self, pixels: Tensor, factor: Tensor, placement: Placement) -> Tensor:
        particles, batch, channels, height, width = pixels.shape
        identity = functional.affine_grid(
            torch.eye(2, 3, dtype=pixels.dtype, device=pixels.device)[None], [1, channels, height, width], False
        )
        flow = self._flow().permute(0, 2, 3, 1)[:, None]
        grid = (identity[None] + factor * flow).expand(particles, batch, height, width, 2)
        flat = functional.grid_sample(
            pixels.reshape(-1, channels, height, width),
            grid.reshape(-1, height, width, 2),
            padding_mode="border",
            align_corners=False,
        )
        return flat.reshape(pixels.shape)

    def _size(self) -> Tensor:
        squared = self._flow().square().sum(dim=1).mean(dim=(1, 2))
        return (squared + 1e-12).sqrt() / 2 / UNIT_SHIFT
