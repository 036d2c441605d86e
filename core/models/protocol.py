"""What the engine sees of a model: log-probabilities over candidate targets, and features."""

from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class SuspectModel(Protocol):
    """A model under suspicion, behind pixels in [0, 1].

    Always in evaluation mode: normalisation statistics are frozen.

    The engine never learns which kind of model it works on.
    """

    @property
    def num_targets(self) -> int:
        """K, the number of candidate targets (classes; text anchors for CLIP)."""
        ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image in pixel space."""
        ...

    @property
    def family(self) -> str:
        """What kind of network it is: suspects are compared with clean models of their family.

        A name, behind "KIND:" for models that are never compared with those of another kind.
        """
        ...

    @property
    def scale(self) -> float | None:
        """What the cosine of an image's features with a text is multiplied by before a softmax over texts.

        None for a model that knows no texts: whose targets are classes it was trained on.
        """
        ...

    @property
    def module(self) -> nn.Module:
        """The network itself, for functional calls over its parameters."""
        ...

    def target_log_posterior(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, K) log-probabilities, rows sum to one; differentiable."""
        ...

    def features(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, D) penultimate features, differentiable."""
        ...

    def posterior_and_features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Both of the above from one forward pass."""
        ...

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters unlearning may move (normalisation statistics are buffers and stay)."""
        ...

    def clone(self) -> Self:
        """An independent copy with its own weights."""
        ...

    def to(self, device: torch.device) -> Self:
        """Move in place and return self."""
        ...

    def state_dict_for_export(self) -> dict[str, Tensor]:
        """The network's own state dict on the CPU, keys as the network names them."""
        ...
