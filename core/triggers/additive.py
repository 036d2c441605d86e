"""A dense additive pattern: blended, sinusoidal and universal-perturbation triggers."""

from typing import ClassVar

import torch
from torch import Tensor, nn

from core.triggers.base import TRIGGERS, ParticleOperator, Placement

#: Root-mean-square pixel change that costs one unit of energy.
UNIT_RMS = 0.05


@TRIGGERS.register("additive")
class AdditiveOperator(ParticleOperator):
    """x' = x + s d; the energy is the root-mean-square of d over pixels and channels, in units of UNIT_RMS."""

    name = "additive"
    learning_rate: ClassVar[float] = 0.02

    def __init__(self, particles: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(particles, image_shape)
        self.pattern = nn.Parameter(torch.zeros(particles, *image_shape))

    def _change(self, pixels: Tensor, factor: Tensor, placement: Placement) -> Tensor:
        return pixels + factor * self.pattern[:, None]

    def _size(self) -> Tensor:
        return (self.pattern.square().mean(dim=(1, 2, 3)) + 1e-12).sqrt() / UNIT_RMS
