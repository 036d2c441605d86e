"""A dense additive pattern without fine detail: blended pictures, shading, slow waves."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from core.triggers.additive import UNIT_RMS
from core.triggers.base import TRIGGERS, ParticleOperator, Placement

#: Points per axis of the control grid.
GRID = 8


@TRIGGERS.register("smooth")
class SmoothOperator(ParticleOperator):
    """x' = x + s d with d bilinear on an 8 x 8 grid; the energy is that of an additive pattern.

    Networks are moved by fine detail of small norm that no trigger put there. Without it, what is found is nearer to a
    planted picture, and a clean model has less to offer.
    """

    name = "smooth"
    learning_rate: ClassVar[float] = 0.03
    natural_energy: ClassVar[float] = 2.5

    def __init__(self, particles: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(particles, image_shape)
        self.grid = nn.Parameter(torch.zeros(particles, image_shape[0], GRID, GRID))

    def _pattern(self) -> Tensor:
        return functional.interpolate(self.grid, size=self.image_shape[1:], mode="bilinear", align_corners=True)

    def _change(self, pixels: Tensor, factor: Tensor, placement: Placement) -> Tensor:
        return pixels + factor * self._pattern()[:, None]

    def _size(self) -> Tensor:
        return (self._pattern().square().mean(dim=(1, 2, 3)) + 1e-12).sqrt() / UNIT_RMS
