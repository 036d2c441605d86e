"""What a trigger may do to an image."""

from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class TriggerOperator(Protocol):
    """A universal, differentiable image change G: x -> x' with a prior energy.

    Operators are nn.Modules: `parameters()` is what inversion fits. Pixel values stay in [0, 1].
    """

    #: registered name: additive, patch, tiled, warp, ...
    name: str
    #: energy at which a trigger of this family says nothing, > 0
    natural_energy: ClassVar[float]

    def apply(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> the same shape, in [0, 1]."""
        ...

    def energy(self) -> Tensor:
        """Scalar >= 0, in resolution-free units: how much trigger there is (minus log-prior up to a constant)."""
        ...
