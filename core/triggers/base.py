"""Banks of trigger operators: several particles of one family behind one batched forward pass."""

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from core.plugins import Registry

#: A draw of where each sample sees the trigger: (M, B) window numbers, or None for operators without a place.
Placement = Tensor | None


class ParticleOperator(nn.Module):
    """M independent triggers of one family; implements TriggerOperator when M is 1.

    Every parameter has a leading axis of length M, so optimising the bank optimises each particle on its own.
    Energies are homogeneous of degree one in the strength: a trigger at strength s has s times the energy.

    Args:
        particles: M >= 1.
        image_shape: (C, H, W) of the pixels it will change.
    """

    name: str = ""
    #: Step size of Adam that suits this parametrisation.
    learning_rate: ClassVar[float] = 0.1
    #: Energy at which a trigger of this family says nothing: what makes families comparable when triggers are drawn.
    #: About a clean model's median for additive, smooth and warp; set by hand for patch, tiled and blend.
    natural_energy: ClassVar[float] = 1.0

    scale: Tensor

    def __init__(self, particles: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape
        self.register_buffer("scale", torch.ones(particles))

    @property
    def particles(self) -> int:
        """M."""
        return self.scale.shape[0]

    def render(self, pixels: Tensor, strength: Tensor | None = None, placement: Placement = None) -> Tensor:
        """Apply particle m to row m.

        Args:
            pixels: (M, B, C, H, W) in [0, 1].
            strength: (M, B) factors on the size of the change; None is one.
            placement: what `draw` returned, for operators that have a place.

        Returns:
            (M, B, C, H, W) in [0, 1].
        """
        factor = self.scale[:, None] if strength is None else self.scale[:, None] * strength
        return self._change(pixels, factor[:, :, None, None, None], placement).clamp(0.0, 1.0)

    def _change(self, pixels: Tensor, factor: Tensor, placement: Placement) -> Tensor:
        """The changed pixels, before clamping; `factor` is (M, B or 1, 1, 1, 1)."""
        raise NotImplementedError

    def _size(self) -> Tensor:
        """(M,) energies at scale one."""
        raise NotImplementedError

    def energies(self) -> Tensor:
        """(M,) energies >= 0 in resolution-free units."""
        return self.scale * self._size()

    # The name is the protocol's; the function-mapping method of nn.Module that it hides is not used on operators.
    def apply(self, pixels: Tensor) -> Tensor:  # type: ignore[override]
        """(B, C, H, W) in [0, 1] -> the same shape, in [0, 1]. For one particle only."""
        if self.particles != 1:
            raise ValueError("a bank of several particles has no single effect; select one")
        return self.render(pixels[None])[0]

    def energy(self) -> Tensor:
        """Scalar energy of the one particle."""
        return self.energies().sum()

    def select(self, rows: Sequence[int]) -> Self:
        """An independent bank of the particles `rows`, in that order."""
        other = self._empty(len(rows))
        index = torch.tensor(list(rows), device=self.scale.device)
        other.to(self.scale.device)
        state = {key: value.detach()[index].clone() for key, value in self.state_dict().items()}
        other.load_state_dict(state)
        return other

    def _empty(self, particles: int) -> Self:
        """A bank of the same family and image shape."""
        return type(self)(particles, self.image_shape)

    def freeze(self) -> Self:
        """Parameters fixed: what an InvertedTrigger holds."""
        for parameter in self.parameters():
            parameter.requires_grad_(False)
        return self

    def draw(self, batch: int, generator: torch.Generator) -> Placement:
        """Where each of `batch` samples of each particle sees the trigger."""
        return None

    def observe(self, placement: Placement, evidence: Tensor, weight: Tensor) -> None:
        """Learn from a step: (M, B) log-marginals at the drawn placement, and which samples count."""


def randomise(bank: ParticleOperator, generator: torch.Generator, spread: float) -> None:
    """Independent Gaussian starting points for every parameter, in place."""
    with torch.no_grad():
        for parameter in bank.parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            parameter.add_(spread * noise)


TRIGGERS: Registry[type[ParticleOperator]] = Registry("trigger operator")
