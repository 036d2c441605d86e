"""A patch: an opacity mask anywhere in the image and the pattern under it."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from core.triggers.base import TRIGGERS, ParticleOperator, Placement

#: Share of the image area, fully covered, that costs one unit of energy.
UNIT_AREA = 0.05


@TRIGGERS.register("patch")
class PatchOperator(ParticleOperator):
    """x' = x + s m (p - x), m and p in [0, 1]; the energy is the covered share of the area, in units of UNIT_AREA.

    Attributes:
        support: (M, 1, H, W) of zeros and ones: where the mask may be.
    """

    name = "patch"
    learning_rate: ClassVar[float] = 0.15
    natural_energy: ClassVar[float] = 2.0

    support: Tensor

    def __init__(self, particles: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(particles, image_shape)
        channels, height, width = image_shape
        self.mask_logit = nn.Parameter(torch.full((particles, 1, height, width), -2.0))
        self.register_buffer("support", torch.ones(particles, 1, height, width))
        self.pattern_logit = nn.Parameter(torch.zeros(particles, channels, height, width))

    def _change(self, pixels: Tensor, factor: Tensor, placement: Placement) -> Tensor:
        mask = (self.mask_logit.sigmoid() * self.support)[:, None]
        pattern = self.pattern_logit.sigmoid()[:, None]
        return pixels + factor * mask * (pattern - pixels)

    def _size(self) -> Tensor:
        return (self.mask_logit.sigmoid() * self.support).mean(dim=(1, 2, 3)) / UNIT_AREA
