"""Image classifiers of transformers, built from the checked fields of a configuration.

transformers is imported on first use: it takes seconds. Nothing here reads a file or asks a hub.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from torch import Tensor, nn

from core.errors import InvalidInputError, UnsupportedError
from core.models.architectures.building import refusals
from core.models.architectures.fields import Checked, check_fields
from core.models.architectures.transformers_fields import KNOWN
from core.models.architectures.transformers_table import ENTRIES, Entry

_HINT = "Types that can be built: " + ", ".join(sorted(ENTRIES)) + "."


def check_config(model_type: str, config: Mapping[str, Any], where: str) -> Checked:
    """The fields of a configuration that a network is built from.

    Raises:
        UnsupportedError: `unsupported_architecture` (not in the list), `unsupported_config`.
        InvalidInputError: `invalid_config`.
    """
    return check_fields(config, _entry(model_type).fields, KNOWN, where)


def choose_class(model_type: str, named: Any) -> str:
    """The classifier class, by the `architectures` field of a configuration.

    Raises:
        UnsupportedError: `unsupported_architecture`: another kind of model than an image classifier.
    """
    models = _entry(model_type).models
    if named is None:
        return models[0]
    names = named if isinstance(named, list) else [named]
    found = next((model for model in models if model in names), None)
    if found is None:
        shown = ", ".join(str(name)[:80] for name in names[:3])
        raise UnsupportedError(
            "unsupported_architecture",
            f"The configuration names {shown or 'no class'}, which is no image classifier of type {model_type}.",
            f"Classes of this type that can be scanned: {', '.join(models)}.",
        )
    return found


def build(model_type: str, class_name: str, options: Mapping[str, Any], num_classes: int, *, bgr: bool) -> nn.Module:
    """The network with fresh weights; it maps (B, C, H, W) to (B, K) logits.

    Args:
        model_type: a key of ENTRIES.
        class_name: one of that entry's models.
        options: fields from `check_config`.
        num_classes: K.
        bgr: the network takes blue first; the built one takes red first and turns it round.

    Raises:
        UnsupportedError: `unsupported_config`: the fields contradict each other.
    """
    import transformers

    entry = _entry(model_type)
    if class_name not in entry.models:
        raise UnsupportedError("unsupported_architecture", f"{class_name[:80]} is no class of type {model_type}.")
    with refusals("transformers", class_name):
        # eager attention: fused kernels do not give the same gradients twice on every device
        config = getattr(transformers, entry.config)(**options, num_labels=num_classes, attn_implementation="eager")
        module: nn.Module = _answering_with_logits(getattr(transformers, class_name), bgr)(config)
    return module


def network_keys(module: nn.Module, keys: Iterable[str]) -> dict[str, str]:
    """Key in a file -> the network's own key: transformers gives some tensors other names in files than in memory.

    Raises:
        InvalidInputError: `invalid_checkpoint_keys`: two keys of the file mean one tensor.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightRenaming, rename_source_key

    renamings = [entry for entry in get_model_conversion_mapping(module) if isinstance(entry, WeightRenaming)]  # type: ignore[arg-type]
    renamed: dict[str, str] = {}
    taken: dict[str, str] = {}
    for key in keys:
        own, _ = rename_source_key(key, renamings, [])
        if own in taken:
            raise InvalidInputError(
                "invalid_checkpoint_keys",
                f"{key[:120]!r} and {taken[own][:120]!r} are two names for one tensor.",
                "Save the model again with save_pretrained.",
            )
        taken[own] = key
        renamed[key] = own
    return renamed


def fixed_size(model_type: str) -> bool:
    """Whether the weights demand images of the configured size."""
    return _entry(model_type).fixed_size


def min_side(model_type: str) -> int:
    """The smallest image that survives."""
    return _entry(model_type).min_side


def _entry(model_type: str) -> Entry:
    if model_type not in ENTRIES:
        raise UnsupportedError(
            "unsupported_architecture", f"No image classifier of type {model_type[:80]!r} is known here.", _HINT
        )
    return ENTRIES[model_type]


@cache
def _answering_with_logits(cls: type[nn.Module], bgr: bool) -> type[nn.Module]:
    """`cls` whose forward pass takes a tensor and returns one: same parameters, same keys, same name."""

    def forward(self: nn.Module, x: Tensor) -> Tensor:
        logits: Tensor = cls.forward(self, pixel_values=x.flip(1) if bgr else x).logits
        return logits

    return type(cls.__name__, (cls,), {"forward": forward, "__module__": cls.__module__})
