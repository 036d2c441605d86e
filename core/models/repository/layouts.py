"""What a set of files is: one checkpoint, or a repository of transformers, timm or open_clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from core.errors import InvalidInputError, UnsupportedError
from core.models.repository.index import Index, read_index
from core.models.repository.names import (
    CONFIG,
    INDEX_SUFFIX,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    PREPROCESSOR,
    PROCESSOR,
    TIMM_WEIGHTS,
    TRANSFORMERS_WEIGHTS,
    Role,
    role_of,
)
from core.models.safety.json_rules import check_config, parse_config
from core.models.safety.limits import DEFAULT
from core.models.source import Source, SourceFile

_MAX_TEXT_BYTES = 1 << 20
_TOKENIZER_CONFIG = "tokenizer_config.json"
_TRANSFORMERS_CONFIGS = (CONFIG, PREPROCESSOR, PROCESSOR)
#: Types of configuration that hold an image and a text tower.
_CLIP_TYPES = frozenset(
    {"clip", "siglip", "siglip2", "metaclip_2", "altclip", "chinese_clip", "align", "blip", "flava", "owlvit", "xclip"}
)


class RepositoryKind(StrEnum):
    """Whose layout it is."""

    CHECKPOINT = "checkpoint"
    TRANSFORMERS = "transformers"
    TIMM = "timm"
    OPEN_CLIP = "open_clip"


@dataclass(frozen=True, slots=True)
class Ignored:
    """A file that a scan does not look at: its path within the model, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Repository:
    """The files of a model, sorted by what they are. Paths are those of the source.

    Attributes:
        kind: whose layout.
        root: the folder that all files are in, with a slash; empty if there is none.
        config: config.json (or open_clip_config.json); empty without one.
        preprocessor: preprocessor_config.json, or its part of processor_config.json; empty without one.
        weights: the checkpoint, or its shards in the order of their names.
        index: which shard holds which tensor; None unless the weights are sharded.
        copies: further files whose weights must be the same ones.
        kept: configurations and texts that go back unchanged.
        ignored: everything else.
        others: the files among the ignored ones that are at hand.
        alone: one file was handed over, not a folder.
    """

    kind: RepositoryKind
    root: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    weights: tuple[SourceFile, ...]
    index: Index | None
    copies: tuple[SourceFile, ...]
    kept: tuple[SourceFile, ...]
    ignored: tuple[Ignored, ...]
    others: tuple[SourceFile, ...] = ()
    alone: bool = False

    @property
    def is_clip(self) -> bool:
        """Whether the configuration says that it is a model of images and texts."""
        return _is_clip(self.kind, self.config)


def recognise(source: Source) -> Repository:
    """Sorts the files of a model.

    Raises:
        InvalidInputError: `invalid_config`, `invalid_index`, `invalid_repository` (no weights, a missing shard).
        UnsafeError: `unsafe_config_*`: a configuration would make a library run or fetch something.
        UnsupportedError: `unsupported_several_models`, `unsupported_repository`.
    """
    if len(source.files) == 1 and role_of(source.files[0].path)[0] is not Role.CONFIG:
        return Repository(RepositoryKind.CHECKPOINT, "", {}, {}, source.files, None, (), (), (), alone=True)
    root = _common_folder(source.files)
    files = {file.path.removeprefix(root): file for file in source.files}
    configs = {
        path: _read_config(file) for path, file in files.items() if path in (CONFIG, PREPROCESSOR, OPEN_CLIP_CONFIG)
    }
    kind = _kind(configs)
    chosen = _choose_weights(kind, files, root)
    index = read_index(files[chosen]) if chosen.endswith(INDEX_SUFFIX) else None
    weights = (files[chosen],) if index is None else _shards(index, files, root)
    copies = _copies(kind, files, weights) if index is None else ()
    config = configs.get(OPEN_CLIP_CONFIG if kind is RepositoryKind.OPEN_CLIP else CONFIG, {})
    preprocessor: Mapping[str, Any] = configs.get(PREPROCESSOR, {})
    if texts := _is_clip(kind, config):
        nested = _read_text_configs(files).get(PROCESSOR, {}).get("image_processor")
        preprocessor = preprocessor or (nested if isinstance(nested, Mapping) else {})
    kept, ignored = _others(kind, files, (*weights, *copies), chosen, texts=texts)
    return Repository(
        kind=kind,
        root=root,
        config=config,
        preprocessor=preprocessor,
        weights=weights,
        index=index,
        copies=copies,
        kept=kept,
        ignored=ignored,
        others=tuple(file for file in source.files if file.path in {item.path for item in ignored}),
    )


def _common_folder(files: Sequence[SourceFile]) -> str:
    """The one folder at the top that all files are in, if the files of a model are right in it."""
    tops = {file.path.partition("/")[0] for file in files}
    inside = all("/" in file.path for file in files)
    return f"{next(iter(tops))}/" if len(tops) == 1 and inside else ""


def _read_config(file: SourceFile) -> dict[str, Any]:
    with file.location.open("rb") as stream:
        data = stream.read(DEFAULT.config_bytes + 1)
    config = parse_config(data, file.path)
    check_config(config, file.path)
    return config


def _is_clip(kind: RepositoryKind, config: Mapping[str, Any]) -> bool:
    if kind is RepositoryKind.OPEN_CLIP:
        return True
    classes = config.get("architectures")
    names = classes if isinstance(classes, list) else []
    classifies = any(isinstance(name, str) and name.endswith("ForImageClassification") for name in names)
    return config.get("model_type") in _CLIP_TYPES and not classifies


def _read_text_configs(files: Mapping[str, SourceFile]) -> dict[str, dict[str, Any]]:
    """The files that a library would take the classes of a processor and a tokenizer from, checked."""
    return {name: _read_config(files[name]) for name in (PROCESSOR, _TOKENIZER_CONFIG) if name in files}


def _kind(configs: Mapping[str, Mapping[str, Any]]) -> RepositoryKind:
    if OPEN_CLIP_CONFIG in configs:
        return RepositoryKind.OPEN_CLIP
    config = configs.get(CONFIG)
    if config is None:
        return RepositoryKind.CHECKPOINT
    if "architecture" in config:  # also what transformers writes around a network of timm
        return RepositoryKind.TIMM
    if "model_type" in config:
        return RepositoryKind.TRANSFORMERS
    raise UnsupportedError(
        "unsupported_repository",
        "config.json names neither a model_type (transformers) nor an architecture (timm).",
        "Save the model with save_pretrained of transformers, or save_for_hf of timm.",
    )


_WEIGHTS = {
    RepositoryKind.TRANSFORMERS: TRANSFORMERS_WEIGHTS,
    RepositoryKind.TIMM: TIMM_WEIGHTS,
    RepositoryKind.OPEN_CLIP: OPEN_CLIP_WEIGHTS,
}


def _choose_weights(kind: RepositoryKind, files: Mapping[str, SourceFile], root: str) -> str:
    """The checkpoint, or the index of a sharded one."""
    for name in _WEIGHTS.get(kind, ()):
        if name in files:
            return name
    candidates = sorted(path for path in files if role_of(path)[0] is Role.CHECKPOINT)
    if len(candidates) == 1 and kind is not RepositoryKind.TRANSFORMERS:
        return candidates[0]
    if len(candidates) > 1 and kind is RepositoryKind.CHECKPOINT:
        shown = ", ".join(candidates[:6])
        raise UnsupportedError(
            "unsupported_several_models",
            f"There is more than one checkpoint and no configuration that says which is the model: {shown}.",
            "Upload the one to scan, or the repository with its config.json.",
        )
    expected = " or ".join(_WEIGHTS.get(kind, ("a checkpoint",)))
    others = sorted(path for path in files if role_of(path)[1].endswith("not scanned, not opened"))
    there = f" There is {others[0]}, which cannot be read." if others else ""
    raise InvalidInputError(
        "invalid_repository",
        f"There are no weights in {root or 'the repository'}: {expected} is missing.{there}",
        "Add the weights as safetensors.",
    )


def _shards(index: Index, files: Mapping[str, SourceFile], root: str) -> tuple[SourceFile, ...]:
    shards = []
    for name in index.shards:
        if name not in files:
            raise InvalidInputError(
                "invalid_repository",
                f"{index.path} names {name}, which is not in {root or 'the repository'}.",
                "Upload all shards.",
            )
        shards.append(files[name])
    return tuple(shards)


def _copies(
    kind: RepositoryKind, files: Mapping[str, SourceFile], weights: tuple[SourceFile, ...]
) -> tuple[SourceFile, ...]:
    """Other files that a library would load as this model's weights if it was told to, or met them first."""
    names = [name for name in _WEIGHTS.get(kind, ()) if not name.endswith(INDEX_SUFFIX)]
    return tuple(files[name] for name in names if name in files and files[name] not in weights)


def _others(
    kind: RepositoryKind, files: Mapping[str, SourceFile], used: tuple[SourceFile, ...], chosen: str, *, texts: bool
) -> tuple[tuple[SourceFile, ...], tuple[Ignored, ...]]:
    kept: list[SourceFile] = []
    ignored: list[Ignored] = []
    for path, file in sorted(files.items()):
        if file in used:
            continue
        role, reason = role_of(path)
        if role is Role.CHECKPOINT:
            reason = "other weights: not scanned, not opened"
        elif role is Role.CONFIG and path.endswith(INDEX_SUFFIX) and path != chosen:
            reason = "index of other weights: not scanned"
        elif role is Role.TEXTS and not texts:
            reason = "not needed to load the model, not opened"
        elif kind is RepositoryKind.OPEN_CLIP and path in _TRANSFORMERS_CONFIGS:
            reason = "of the same model in another library's layout: not scanned"
        elif role is Role.TEXT and not _is_small_text(file):
            reason = "not a small text"
        if reason:
            ignored.append(Ignored(file.path, reason))
        else:
            kept.append(file)
    return tuple(kept), tuple(ignored)


def _is_small_text(file: SourceFile) -> bool:
    with file.location.open("rb") as stream:
        data = stream.read(_MAX_TEXT_BYTES + 1)
    try:
        return len(data) <= _MAX_TEXT_BYTES and "\0" not in data.decode()
    except UnicodeDecodeError:
        return False
