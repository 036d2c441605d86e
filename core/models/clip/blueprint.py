"""A network of an image and a text tower, described by checked fields.

A blueprint crosses from the parsing to the computing process as JSON and is checked again there: it holds nothing but
what the closed lists allow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core.errors import UnsupportedError
from core.models.architectures.base import Match
from core.models.architectures.fit import compare
from core.models.architectures.inference import Inspection
from core.models.clip import open_clip_configs
from core.models.clip.towers import OpenClipImageTower

CHANNELS = 3


@dataclass(frozen=True, slots=True)
class ClipBlueprint:
    """What a network is built from.

    Attributes:
        library: whose network it is.
        model: the image tower in a word (open_clip), or the type of the configuration (transformers).
        options: checked fields.
    """

    library: Literal["open_clip"]
    model: str
    options: dict[str, Any]

    @property
    def name(self) -> str:
        """For the report, such as `open_clip:vit`."""
        return f"{self.library}:{self.model}"

    @property
    def names(self) -> tuple[str, ...]:
        """What a request may call it."""
        return self.name, self.model

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "ClipBlueprint":
        """Inverse of `to_json`; the fields are checked again.

        Raises:
            UnsupportedError, InvalidInputError: the closed lists do not allow it.
        """
        found = cls(**value)
        open_clip_configs.check_model(found.options, found.name)
        return found

    def build(self) -> nn.Module:
        """The whole network with fresh weights.

        Raises:
            UnsupportedError: `unsupported_config`: the fields contradict each other.
        """
        return open_clip_configs.build(self.options)

    def build_meta(self) -> nn.Module:
        """The same without memory for weights."""
        try:
            with torch.device("meta"):
                return self.build()
        except (NotImplementedError, UnsupportedError):  # a few compute with tensors while they are built
            return self.build()

    def network_keys(self, module: nn.Module, keys: Iterable[str]) -> dict[str, str]:
        """Key in the repository's weights -> key of `module`."""
        return {key: key for key in keys}

    def inspect(self, module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """Checks that weights of these shapes, by the network's own keys, are this network's, all and no other.

        Raises:
            UnsupportedError: `unsupported_architecture`: says what differs.
        """
        own = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        misfit = compare(self.name, own, shapes)
        if misfit.distance:
            raise UnsupportedError(
                "unsupported_architecture",
                f"The weights do not fit the configuration. {misfit.describe()}.",
                "Configuration and weights must be of one model, both towers of it.",
            )
        size = self.image_size
        return Inspection(Match(self.name, 0, CHANNELS, size, size, "imagenet"), "config", (), (self.name,))

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) that the weights demand."""
        side = self.options["vision_cfg"].get("image_size", open_clip_configs.IMAGE_SIZE)
        return (side[0], side[-1]) if isinstance(side, list) else (side, side)

    @property
    def context_length(self) -> int:
        """Tokens of a text."""
        return int(self.options["text_cfg"].get("context_length", open_clip_configs.CONTEXT_LENGTH))

    @property
    def vocab_size(self) -> int:
        """Tokens that the text tower knows."""
        return int(self.options["text_cfg"].get("vocab_size", open_clip_configs.VOCAB_SIZE))

    def image_tower(self, network: nn.Module) -> nn.Module:
        """The image tower of `network`, with the whole network's keys; it shares the weights."""
        return OpenClipImageTower(network)

    @torch.no_grad()
    def embed(self, network: Any, tokens: Tensor) -> Tensor:
        """(N, L) token numbers -> (N, D) text embeddings of any length."""
        embedding: Tensor = network.encode_text(tokens)
        return embedding

    @torch.no_grad()
    def scale(self, network: Any) -> float:
        """What cosines are multiplied with."""
        return float(network.logit_scale.float().exp().reshape(-1)[0])
