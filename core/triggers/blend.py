"""A picture mixed in everywhere: blended triggers at the opacity they are planted with."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from core.triggers.additive import UNIT_RMS
from core.triggers.base import TRIGGERS, ParticleOperator, Placement

#: Share of the picture in the result at strength one.
OPACITY = 0.2
_UNIFORM_VARIANCE = 1 / 12


@TRIGGERS.register("blend")
class BlendOperator(ParticleOperator):
    """x' = x + s a (p - x) with p in [0, 1] and opacity a = OPACITY; s a is at most one.

    The energy is the root-mean-square change of an image with uniform pixels, in units of UNIT_RMS, so that it compares
    with an additive pattern's.
    """

    name = "blend"
    learning_rate: ClassVar[float] = 0.3
    natural_energy: ClassVar[float] = 2.0

    def __init__(self, particles: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(particles, image_shape)
        self.picture_logit = nn.Parameter(torch.zeros(particles, *image_shape))

    def _change(self, pixels: Tensor, factor: Tensor, placement: Placement) -> Tensor:
        return pixels + (OPACITY * factor).clamp(max=1.0) * (self.picture_logit.sigmoid()[:, None] - pixels)

    def _size(self) -> Tensor:
        centred = self.picture_logit.sigmoid() - 0.5
        return OPACITY * (centred.square().mean(dim=(1, 2, 3)) + _UNIFORM_VARIANCE).sqrt() / UNIT_RMS
