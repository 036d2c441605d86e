"""A network of an image and a text tower, described by checked fields.

A blueprint crosses from the parsing to the computing process as JSON and is checked again there: it holds nothing but
what the closed lists allow.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from core.models.architectures.base import Match, Shapes
from core.models.architectures.building import on_meta
from core.models.architectures.inference import Inspection
from core.models.architectures.misfit import must_fit
from core.models.clip.library import Library
from core.models.clip.open_clip_library import OpenClip
from core.models.clip.tokenizers import TokenizerRules
from core.models.clip.transformers_library import Transformers

CHANNELS = 3
_LIBRARIES: Mapping[str, Library] = {"open_clip": OpenClip(), "transformers": Transformers()}


@dataclass(frozen=True, slots=True)
class ClipBlueprint:
    """What a network is built from.

    Attributes:
        library: whose network it is.
        options: checked fields.
    """

    library: Literal["open_clip", "transformers"]
    options: dict[str, Any]

    @property
    def _library(self) -> Library:
        return _LIBRARIES[self.library]

    @property
    def model(self) -> str:
        """The image tower in a word (open_clip), or the type of the configuration (transformers)."""
        return self._library.name(self.options)

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
        return cls.checked(value["library"], value["options"], "the blueprint")[0]

    @classmethod
    def checked(
        cls, library: Literal["open_clip", "transformers"], config: Mapping[str, Any], where: str
    ) -> tuple["ClipBlueprint", tuple[str, ...]]:
        """From a configuration: the blueprint, and the names of fields that were not taken.

        Raises:
            InvalidInputError: `invalid_config`.
            UnsupportedError: `unsupported_config`, `unsupported_architecture`, `unsupported_text_model`.
        """
        found = _LIBRARIES[library].check(config, where)
        return cls(library, found.taken), found.ignored

    def tokenizer_rules(self, config: Mapping[str, Any]) -> TokenizerRules:
        """How texts become numbers, from the configuration that this was made from."""
        return self._library.tokenizer(config)

    def build(self) -> nn.Module:
        """The whole network with fresh weights.

        Raises:
            UnsupportedError: `unsupported_config`: the fields contradict each other.
        """
        return self._library.build(self.options)

    def build_meta(self) -> nn.Module:
        """The same without memory for weights."""
        return on_meta(self.build)

    def network_keys(self, module: nn.Module, keys: Iterable[str]) -> dict[str, str]:
        """Key in the repository's weights -> key of `module`.

        Raises:
            InvalidInputError: `invalid_checkpoint_keys`: two keys mean one tensor.
        """
        return self._library.network_keys(module, keys)

    @property
    def spare(self) -> tuple[str, ...]:
        """Patterns of keys that files hold and the network does without."""
        return self._library.spare

    def without_spare(self, own: Shapes, shapes: Shapes) -> Shapes:
        """`shapes` without what the network (whose shapes are `own`) does without."""
        patterns = [re.compile(pattern) for pattern in self.spare]
        return {
            key: shape
            for key, shape in shapes.items()
            if key in own or not any(pattern.search(key) for pattern in patterns)
        }

    def inspect(self, module: nn.Module, shapes: Shapes) -> Inspection:
        """Checks that weights of these shapes, by the network's own keys, are this network's, all and no other.

        Raises:
            UnsupportedError: `unsupported_architecture`: says what differs.
        """
        must_fit(self.name, module, shapes, "Configuration and weights must be of one model, both towers of it.")
        return Inspection(self.match, "config", (), (self.name,))

    @property
    def match(self) -> Match:
        """The network as what takes images; classes it has none."""
        size = self.image_size
        return Match(self.name, 0, CHANNELS, size, size, "imagenet")

    @property
    def image_size(self) -> tuple[int, int]:
        """(H, W) that the weights demand."""
        return self._library.image_size(self.options)

    def image_tower(self, network: nn.Module) -> nn.Module:
        """The image tower of `network`, with the whole network's keys; it shares the weights."""
        return self._library.image_tower(network)

    @torch.no_grad()
    def embed(self, network: nn.Module, tokens: Tensor) -> Tensor:
        """(N, L) token numbers -> (N, D) text embeddings of any length."""
        return self._library.embed(network, tokens)

    @torch.no_grad()
    def scale(self, network: Any) -> float:
        """What cosines are multiplied with; a bias beside it moves all targets alike."""
        return float(network.logit_scale.float().exp().reshape(-1)[0])
