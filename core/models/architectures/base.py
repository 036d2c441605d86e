"""What every architecture family offers: networks split at the penultimate layer, and inference from shapes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

#: State-dict key -> shape, in the checkpoint's order, prefixes already stripped.
Shapes = Mapping[str, tuple[int, ...]]


class SplitNetwork(nn.Module):
    """A classifier whose one forward pass yields penultimate features and logits."""

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) normalised input -> (B, D) penultimate features."""
        raise NotImplementedError

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, D) penultimate features -> (B, K) logits."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) normalised input -> (B, K) logits."""
        return self.forward_head(self.forward_features(x))


@dataclass(frozen=True, slots=True)
class Match:
    """A network that a checkpoint's keys and shapes fit.

    Attributes:
        name: canonical name: `build(name, num_classes, in_channels)` gives the network.
        num_classes: K, from the head; 0 for a model of images and texts, whose targets are texts.
        in_channels: from the stem.
        size: (H, W) the weights demand; None if any size does.
        default_size: (H, W) to use when nothing else decides.
        stem: "cifar" (stride 1) or "imagenet" (strided or patches).
        min_side: smallest image that survives the pooling.
    """

    name: str
    num_classes: int
    in_channels: int
    size: tuple[int, int] | None = None
    default_size: tuple[int, int] = (32, 32)
    stem: str = "cifar"
    min_side: int = 16


class Family(Protocol):
    """One family of architectures."""

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """The network called `name`, freshly initialised; None if the name is not of this family."""
        ...

    def infer(self, shapes: Shapes) -> Match | None:
        """The member these shapes look like, cheaply and by keys alone; the caller verifies it strictly."""
        ...

    def twins(self, name: str) -> list[str]:
        """Members with the same keys and shapes as `name` but another forward pass."""
        ...
