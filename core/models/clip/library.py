"""What a library of networks of images and texts has to say about one of its networks."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from torch import Tensor, nn

from core.models.architectures.fields import Checked
from core.models.clip.tokenizers import TokenizerRules


class Library(Protocol):
    """One library: its configurations and its networks."""

    #: Patterns of keys that files hold and networks do without.
    spare: tuple[str, ...]

    def check(self, config: Mapping[str, Any], where: str) -> Checked:
        """The fields that a network is built from, in the form that `build` takes.

        Raises:
            InvalidInputError: `invalid_config`.
            UnsupportedError: `unsupported_config`, `unsupported_architecture`, `unsupported_text_model`.
        """
        ...

    def tokenizer(self, config: Mapping[str, Any]) -> TokenizerRules:
        """How texts become numbers, from a configuration that was checked."""
        ...

    def build(self, options: Mapping[str, Any]) -> nn.Module:
        """The whole network with fresh weights.

        Raises:
            UnsupportedError: `unsupported_config`: the fields contradict each other.
        """
        ...

    def network_keys(self, module: nn.Module, keys: Iterable[str]) -> dict[str, str]:
        """Key in files -> key of `module`.

        Raises:
            InvalidInputError: `invalid_checkpoint_keys`: two keys mean one tensor.
        """
        ...

    def name(self, options: Mapping[str, Any]) -> str:
        """The network in a word."""
        ...

    def image_size(self, options: Mapping[str, Any]) -> tuple[int, int]:
        """(H, W) that the weights demand."""
        ...

    def image_tower(self, network: Any) -> nn.Module:
        """(B, C, H, W) -> (B, D), with the whole network's keys; shares the weights of `network`."""
        ...

    def embed(self, network: Any, tokens: Tensor) -> Tensor:
        """(N, L) token numbers -> (N, D) text embeddings of any length."""
        ...
