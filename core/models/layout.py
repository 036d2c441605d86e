"""Where in a checkpoint the weights are, and how to put changed weights back in the same place.

A checkpoint is unwrapped in two steps: dictionaries around the state dict (`{"state_dict": {...}, "epoch": 3}`), then
prefixes that wrappers put before every key (`module.`). What is not needed to load the weights (optimizer state, ...)
is dropped and listed.
"""

import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from core.errors import InvalidInputError, UnsupportedError
from core.models import plain
from core.models.formats import RawCheckpoint
from core.models.safety import Container
from core.models.tensor_checks import MAX_TENSORS

#: What people call the weights inside a checkpoint, in the order of preference.
WRAPPERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "classifier",
    "backbone",
    "weights",
    "params",
)
#: Wrapper modules that stand before every key; "1." is Sequential(Normalize or Resize, network).
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "1.")
_MEANS, _STDS = ("mean", "mu", "_mean"), ("std", "sigma", "_std")
#: What people call a running average of the weights.
_AVERAGED = re.compile(r"(^|_)(ema|swa)(_|$)")
_MAX_NESTING = 4
_SAVE_WEIGHTS = "Save the weights alone: torch.save(model.state_dict(), 'model.pth'), or safetensors."


@dataclass(frozen=True, slots=True)
class Layout:
    """How the weights lay in the upload.

    Attributes:
        container: the file format.
        levels: dictionaries around the state dict, outermost first: [key, encoded value] in order, the value of
            the key that leads inwards being None; only what is kept.
        path: the keys that lead inwards.
        prefix: what every key of the network began with.
        keys: [key in the upload, dtype name] in order, with prefixes.
        auxiliary: keys in the upload that belong to a normalisation in front of the network, or that the network
            does without.
        ordered: the state dict is an OrderedDict.
        versions: module versions that torch keeps with a state dict (`_metadata`).
        metadata: safetensors metadata.
        dropped: what was left out, as dotted names.
        renames: key in the upload -> the network's own key, where the difference is more than a prefix.
    """

    container: str
    levels: list[list[list[Any]]]
    path: list[str]
    prefix: str
    keys: list[list[str]]
    auxiliary: list[str]
    ordered: bool
    versions: dict[str, dict[str, int]]
    metadata: dict[str, str]
    dropped: list[str]
    renames: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Layout":
        """Raises TypeError if fields are missing or unknown."""
        return cls(**value)

    def module_key(self, key: str) -> str:
        """The network's own name for a key of the upload."""
        return key if key in self.auxiliary else self.renames.get(key, key.removeprefix(self.prefix))

    def plain_key(self, key: str) -> str:
        """`key` without prefixes, by the name that its library gives it in files."""
        return key if key in self.auxiliary else key.removeprefix(self.prefix)

    def dtype(self, name: str) -> torch.dtype:
        """The torch dtype called `name` in `keys`."""
        dtype = getattr(torch, name)
        assert isinstance(dtype, torch.dtype)
        return dtype

    def extras(self) -> dict[str, Any]:
        """The small values kept beside the weights, inner ones first where names repeat."""
        found: dict[str, Any] = {}
        for level, inward in zip(reversed(self.levels), reversed(self.path), strict=True):
            for key, value in level:
                if key != inward:
                    found.setdefault(key, plain.decode(value))
        return found


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """The network's tensors by its own keys, the normalisation's beside them, and where they came from."""

    tensors: dict[str, Tensor]
    auxiliary: dict[str, Tensor]
    layout: Layout


def unwrap(raw: RawCheckpoint) -> Unwrapped:
    """Finds the one state dict in a checkpoint.

    Raises:
        UnsupportedError: `unsupported_checkpoint_layout` (none), `unsupported_several_models` (more than one).
        InvalidInputError: `invalid_checkpoint_keys`, `invalid_checkpoint_values`.
    """
    levels: list[list[list[Any]]] = []
    path: list[str] = []
    dropped: list[str] = []
    content = raw.content
    while not _is_state_dict(content):
        inward = _step_inwards(content, path)
        levels.append(_keep(content, inward, path, dropped))
        path.append(inward)
        content = content[inward]
    prefix, auxiliary = _prefix(content)
    layout = _layout(raw, content, levels, path, prefix, auxiliary, dropped)
    tensors = {layout.module_key(key): tensor.detach() for key, tensor in content.items() if key not in auxiliary}
    return Unwrapped(tensors, {key: content[key].detach() for key in auxiliary}, layout)


def _layout(
    raw: RawCheckpoint,
    content: Mapping[str, Tensor],
    levels: list[list[list[Any]]],
    path: list[str],
    prefix: str,
    auxiliary: list[str],
    dropped: list[str],
) -> Layout:
    return Layout(
        container=raw.container.value,
        levels=levels,
        path=path,
        prefix=prefix,
        keys=[[key, str(tensor.dtype).removeprefix("torch.")] for key, tensor in content.items()],
        auxiliary=auxiliary,
        ordered=isinstance(content, OrderedDict),
        versions=_versions(content),
        metadata=dict(raw.metadata),
        dropped=dropped,
    )


def unwrap_bare(raw: RawCheckpoint, name: str) -> Unwrapped:
    """A file that is a state dict and nothing else, as libraries write it: keys are left alone.

    Raises:
        UnsupportedError: `unsupported_checkpoint_layout`.
    """
    if not _is_state_dict(raw.content):
        raise UnsupportedError(
            "unsupported_checkpoint_layout",
            f"{name} is no plain dictionary of tensors, which the library expects there.",
            "Save the model again with save_pretrained.",
        )
    layout = _layout(raw, raw.content, [], [], "", [], [])
    return Unwrapped({key: tensor.detach() for key, tensor in raw.content.items()}, {}, layout)


def rename(found: Unwrapped, names: Mapping[str, str], spare: frozenset[str]) -> Unwrapped:
    """`found` by other keys.

    Args:
        found: of `unwrap` or `unwrap_bare`.
        names: key as found -> the network's own key.
        spare: keys as found that the network does without; they are carried along unchanged.
    """
    layout = found.layout
    by_file = {key: layout.module_key(key) for key, _ in layout.keys}
    renames = {key: names[own] for key, own in by_file.items() if own in names and names[own] != layout.plain_key(key)}
    auxiliary = [*layout.auxiliary, *(key for key, own in by_file.items() if own in spare)]
    beside = {key: found.tensors[own] for key, own in by_file.items() if own in spare}
    tensors = {names.get(own, own): tensor for own, tensor in found.tensors.items() if own not in spare}
    return Unwrapped(tensors, found.auxiliary | beside, replace(layout, renames=renames, auxiliary=auxiliary))


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items())
    )


def _step_inwards(content: Any, path: list[str]) -> str:
    """The key under which the weights are; refuses with the reason when there is no such one key."""
    where = ".".join(path) or "the file"
    if not isinstance(content, Mapping):
        raise UnsupportedError(
            "unsupported_checkpoint_layout",
            f"In {where} there is a {type(content).__name__}, not a dictionary of tensors.",
            _SAVE_WEIGHTS,
        )
    if not content:
        raise InvalidInputError("invalid_checkpoint_empty", f"The dictionary in {where} is empty.", _SAVE_WEIGHTS)
    if len(path) >= _MAX_NESTING or len(content) > MAX_TENSORS:
        raise UnsupportedError(
            "unsupported_checkpoint_layout", "The weights are nested too deep, or among too much else.", _SAVE_WEIGHTS
        )
    models = [key for key, value in content.items() if isinstance(key, str) and _looks_like_weights(key, value)]
    if len(models) > 1:  # an averaged copy beside the weights is left out, and listed
        models = [key for key in models if not _AVERAGED.search(key)] or models
    if len(models) > 1:
        raise UnsupportedError(
            "unsupported_several_models",
            f"There is more than one set of weights: {', '.join(name[:60] for name in sorted(models)[:6])}.",
            "Save the one to scan alone: a verdict covers a whole file.",
        )
    if models:
        return models[0]
    nested = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
    if nested and not any(isinstance(value, Tensor) for value in content.values()):
        return nested[0]
    _refuse_entries(content)
    raise UnsupportedError(
        "unsupported_checkpoint_layout",
        f"No state dict in {where}: its keys are {', '.join(repr(str(key)[:40]) for key in list(content)[:6])}.",
        _SAVE_WEIGHTS,
    )


def _looks_like_weights(key: str, value: Any) -> bool:
    """A state dict with at least one weight matrix; optimizers and the like hold other things."""
    if not isinstance(value, Mapping) or any(word in key.lower() for word in ("optim", "sched", "scaler")):
        return False
    return _is_state_dict(value) and any(tensor.dim() >= 2 for tensor in value.values())


def _refuse_entries(content: Mapping[Any, Any]) -> None:
    """Says what is wrong with something that is nearly a state dict."""
    if not any(isinstance(value, Tensor) for value in content.values()):
        return
    for key, value in content.items():
        if not isinstance(key, str):
            raise InvalidInputError(
                "invalid_checkpoint_keys", f"A key is {type(key).__name__}, not text.", _SAVE_WEIGHTS
            )
        if not isinstance(value, Tensor):
            raise InvalidInputError(
                "invalid_checkpoint_values",
                f"{key[:120]!r} holds {type(value).__name__}, not a tensor.",
                _SAVE_WEIGHTS,
            )


def _keep(content: Mapping[Any, Any], inward: str, path: list[str], dropped: list[str]) -> list[list[Any]]:
    kept: list[list[Any]] = []
    for key, value in content.items():
        if key == inward:
            kept.append([key, None])
            continue
        try:
            if not isinstance(key, str):
                raise ValueError("keys are text")
            kept.append([key, plain.encode(value)])
        except ValueError:
            dropped.append(".".join([*path, str(key)[:120]]))
    return kept


def _prefix(content: Mapping[str, Tensor]) -> tuple[str, list[str]]:
    """(common prefix, keys of a normalisation in front of the network)."""
    means = [key for key in content if _is_statistic(key, content[key], _MEANS)]
    stds = [key for key in content if _is_statistic(key, content[key], _STDS)]
    auxiliary = [means[0], stds[0]] if len(means) == 1 and len(stds) == 1 else []
    keys = [key for key in content if key not in auxiliary]
    prefix = ""
    while keys:
        step = next((p for p in PREFIXES if all(key[len(prefix) :].startswith(p) for key in keys)), None)
        if step is None:
            break
        prefix += step
    return prefix, auxiliary


def _is_statistic(key: str, tensor: Tensor, names: tuple[str, ...]) -> bool:
    return key.rpartition(".")[2] in names and tensor.numel() in (1, 3) and tensor.dtype.is_floating_point


def _versions(content: Any) -> dict[str, dict[str, int]]:
    """torch's `_metadata`, as far as it is what torch writes: module path -> {"version": int}."""
    metadata = getattr(content, "_metadata", None)
    if not isinstance(metadata, Mapping):
        return {}
    return {
        path: {"version": entry["version"]}
        for path, entry in metadata.items()
        if isinstance(path, str) and isinstance(entry, Mapping) and isinstance(entry.get("version"), int)
    }


def rewrap(layout: Layout, tensors: Mapping[str, Tensor]) -> Any:
    """The object to save: `tensors` (by key in the upload) in the dictionaries they came in."""
    state: dict[str, Tensor] = OrderedDict() if layout.ordered else {}
    for key, _ in layout.keys:
        state[key] = tensors[key]
    if layout.versions and layout.ordered:
        state._metadata = OrderedDict(layout.versions)  # type: ignore[attr-defined]
    content: Any = state
    for level, inward in zip(reversed(layout.levels), reversed(layout.path), strict=True):
        content = {key: content if key == inward else plain.decode(value) for key, value in level}
    return content


def is_torch(layout: Layout) -> bool:
    """Whether the upload was a file of torch.save."""
    return layout.container != Container.SAFETENSORS.value
