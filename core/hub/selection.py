"""Which files of a repository make up its model: by name, from closed lists, and safetensors wherever there are any.

What is not chosen is never fetched. Two revisions that differ in nothing chosen are the same model.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from core.hub.errors import HubContentError
from core.hub.source import SMALL_BYTES, HubFile

#: Version of these rules; another choice of files gets another number.
RULES = "2"

CONFIG, OPEN_CLIP_CONFIG, PREPROCESSOR = "config.json", "open_clip_config.json", "preprocessor_config.json"
TEXT_SIDE = (
    "added_tokens.json",
    "merges.txt",
    "processor_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
)
MAX_SHARDS = 500

_SHARD = re.compile(r"(model|pytorch_model)-\d{5}-of-\d{5}\.(safetensors|bin)")
_FOREIGN = (".h5", ".msgpack", ".onnx", ".gguf", ".pt", ".pth", ".ckpt", ".tflite", ".pb", ".pkl", ".mlpackage")
#: Model types of transformers that score images against texts.
_TEXT_AND_IMAGE = re.compile(r"clip|siglip|altclip|align")

Read = Callable[[HubFile], bytes]


@dataclass(frozen=True, slots=True)
class Choice:
    """The files of the model, by path, and all other paths of the repository."""

    files: tuple[HubFile, ...]
    ignored: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Layout:
    """One way to publish a model: a configuration, and weights in one file or in shards."""

    config: str
    weights: str
    index: str | None = None


#: In order of preference.
_LAYOUTS = (
    _Layout(CONFIG, "model.safetensors", "model.safetensors.index.json"),
    _Layout(OPEN_CLIP_CONFIG, "open_clip_model.safetensors"),
    _Layout(CONFIG, "pytorch_model.bin", "pytorch_model.bin.index.json"),
    _Layout(OPEN_CLIP_CONFIG, "open_clip_pytorch_model.bin"),
)


def choose(files: Sequence[HubFile], read: Read) -> Choice:
    """The model's files among those of a repository.

    Args:
        files: everything there is.
        read: the bytes of one of them, of at most SMALL_BYTES.

    Raises:
        HubContentError: `hub_no_model`, nothing here is a model; `hub_files_missing`, a file that another one names
            is not there; `hub_invalid_index`.
    """
    root = {file.path: file for file in files if "/" not in file.path}
    for layout in _LAYOUTS:
        if layout.config in root and (weights := _weights(layout, root, read)):
            names = {layout.config, *weights, *_companions(layout, root, read)}
            return _choice(files, names)
    alone = [path for path in root if path.endswith(".safetensors")]
    if len(alone) == 1 and not {CONFIG, OPEN_CLIP_CONFIG} & root.keys():
        return _choice(files, set(alone))
    raise _no_model(root)


def _weights(layout: _Layout, root: dict[str, HubFile], read: Read) -> list[str]:
    """Names of the files that hold the weights, and of their index; empty if they are not there."""
    if layout.weights in root:
        return [layout.weights]
    if layout.index is None or layout.index not in root:
        return []
    shards = _shards(layout.index, read(_small(root[layout.index])))
    if missing := sorted(set(shards) - root.keys()):
        raise HubContentError(
            "hub_files_missing",
            f"{layout.index} names {missing[0]}, which the repository does not have.",
            "The repository is incomplete at this revision: name another one.",
        )
    return [layout.index, *shards]


def _shards(index: str, data: bytes) -> list[str]:
    weight_map = _json_object(data).get("weight_map")
    names = set(weight_map.values()) if isinstance(weight_map, dict) and _all_text(weight_map) else set()
    if not 1 <= len(names) <= MAX_SHARDS or not all(_SHARD.fullmatch(name) for name in names):
        raise HubContentError("hub_invalid_index", f"{index} is no list of the files that hold the weights.")
    return sorted(names)


def _all_text(weight_map: dict[Any, Any]) -> bool:
    return all(isinstance(name, str) for name in weight_map.values())


def _companions(layout: _Layout, root: dict[str, HubFile], read: Read) -> set[str]:
    """What else such a model is loaded with."""
    wanted: set[str] = set()
    if layout.config == CONFIG:
        wanted.add(PREPROCESSOR)
    if layout.config == OPEN_CLIP_CONFIG or _has_text_side(read(_small(root[CONFIG]))):
        wanted.update(TEXT_SIDE)
    return wanted & root.keys()


def _has_text_side(config: bytes) -> bool:
    model_type = _json_object(config).get("model_type")
    return isinstance(model_type, str) and _TEXT_AND_IMAGE.search(model_type) is not None


def _json_object(data: bytes) -> dict[str, Any]:
    """The object in `data`; empty if it is none. Whoever uses the model reads it again, strictly."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _small(file: HubFile) -> HubFile:
    if file.size_bytes > SMALL_BYTES:
        raise HubContentError("hub_invalid_index", f"{file.path} is too large for what it is.")
    return file


def _choice(files: Sequence[HubFile], names: set[str]) -> Choice:
    chosen = sorted((file for file in files if file.path in names), key=lambda file: file.path)
    return Choice(tuple(chosen), tuple(sorted(file.path for file in files if file.path not in names)))


def _no_model(root: dict[str, HubFile]) -> HubContentError:
    foreign = sorted(path for path in root if path.endswith(_FOREIGN))
    if foreign:
        what = f"Its weights are in formats that are not read from repositories: {', '.join(foreign)[:200]}."
    elif {CONFIG, OPEN_CLIP_CONFIG} & root.keys():
        what = "It has a configuration and no weights beside it."
    else:
        what = "It has neither config.json nor open_clip_config.json."
    return HubContentError(
        "hub_no_model",
        f"The repository holds no model that can be scanned. {what}",
        "Read are: transformers and timm (config.json with model.safetensors or pytorch_model.bin) and open_clip.",
    )
