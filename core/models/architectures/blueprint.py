"""A network described by a configuration instead of a name: library, type, and checked fields.

A blueprint crosses from the parsing to the computing process as JSON and is checked again there: it holds nothing but
what the closed lists allow.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import nn

from core.errors import UnsupportedError
from core.models.architectures import timm_configs, transformers_zoo
from core.models.architectures.base import Match
from core.models.architectures.building import on_meta
from core.models.architectures.fields import whole
from core.models.architectures.fit import describe
from core.models.architectures.inference import MAX_CLASSES, Inspection, checked
from core.models.architectures.misfit import must_fit

_TIMM_PREFIX = "timm_model."
_DEFAULT_SIZE = (224, 224)


@dataclass(frozen=True, slots=True)
class Blueprint:
    """What a network is built from.

    Attributes:
        library: whose network it is.
        model: type of configuration (transformers) or name of the network (timm).
        variant: class name (transformers); empty for timm.
        options: checked fields.
        num_classes: K, as declared.
        in_channels: as declared.
        bgr: it was trained on images with blue first.
    """

    library: Literal["transformers", "timm"]
    model: str
    variant: str
    options: dict[str, Any]
    num_classes: int
    in_channels: int
    bgr: bool = False

    @property
    def name(self) -> str:
        """For the report, such as `transformers:vit` or `timm:resnet18`."""
        return f"{self.library}:{self.model}"

    @property
    def names(self) -> tuple[str, ...]:
        """What a request may call it."""
        return self.name, self.model, self.variant

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Blueprint":
        """Inverse of `to_json`; the fields are checked again.

        Raises:
            UnsupportedError, InvalidInputError: the closed lists do not allow it.
            ValueError, LookupError: classes or channels are no such number.
        """
        found = cls(**value)
        whole(1, MAX_CLASSES)(found.num_classes)
        whole(1, 3)(found.in_channels)
        if found.library == "timm":
            timm_configs.check_arguments(found.options, found.name)
        elif transformers_zoo.check_config(found.model, found.options, found.name).ignored:
            raise UnsupportedError("unsupported_config", f"{found.name}: fields that are not taken.")
        return found

    def build(self) -> nn.Module:
        """The network with fresh weights, (B, C, H, W) -> (B, K).

        Raises:
            UnsupportedError: `unsupported_config`: the fields contradict each other.
        """
        if self.library == "timm":
            return timm_configs.build(self.model, self.options, self.num_classes, self.in_channels)
        return transformers_zoo.build(self.model, self.variant, self.options, self.num_classes, bgr=self.bgr)

    def build_meta(self) -> nn.Module:
        """The same without memory for weights."""
        return on_meta(self.build)

    def network_keys(self, module: nn.Module, keys: Iterable[str]) -> dict[str, str]:
        """Key in the repository's weights -> key of `module`.

        Raises:
            InvalidInputError: `invalid_checkpoint_keys`: two keys mean one tensor.
        """
        if self.library == "transformers":
            return transformers_zoo.network_keys(module, keys)
        return {key: key.removeprefix(_TIMM_PREFIX) for key in keys}

    @property
    def spare(self) -> tuple[str, ...]:
        """Patterns of keys that files hold and the network does without, beyond those that its class names."""
        return ()

    def inspect(self, module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> Inspection:
        """Checks that weights of these shapes, by the network's own keys, are this network's, all and no other.

        Raises:
            UnsupportedError: `unsupported_architecture` (says what differs), `unsupported_num_classes`,
                `unsupported_input_channels`.
        """
        must_fit(
            self.name, module, shapes, "Configuration and weights must be of one model: a classifier with its head."
        )
        return checked(Inspection(self._match(module), "config", (), (self.name,)))

    def _match(self, module: nn.Module) -> Match:
        if self.library == "timm":
            return describe(self.name, module, self.num_classes, self.in_channels)
        side = self.options.get("image_size")
        size = _DEFAULT_SIZE
        if isinstance(side, int):
            size = (side, side)
        elif isinstance(side, list):
            size = (side[0], side[-1])
        elif (built := getattr(getattr(module, "config", None), "image_size", None)) and isinstance(built, int):
            size = (built, built)
        fixed = size if transformers_zoo.fixed_size(self.model) else None
        least = transformers_zoo.min_side(self.model)
        return Match(self.name, self.num_classes, self.in_channels, fixed, size, "imagenet", least)
