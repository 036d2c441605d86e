"""Opens a model: from its files to checked tensors by the network's own keys, and all that is known about it."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor, nn

from core.config import ScanConfig
from core.domain import ModelKind
from core.errors import AssayError, InvalidInputError, UnsafeError, UnsupportedError
from core.models.architectures import Inspection, infer
from core.models.architectures.blueprint import Blueprint
from core.models.clip.blueprint import ClipBlueprint
from core.models.clip.inference import infer_clip, is_clip
from core.models.clip.tokenizers import TokenizerRules
from core.models.declared import Declared, declared_preprocess, requested_preprocess
from core.models.formats import read_checkpoint
from core.models.layout import Unwrapped, rename, unwrap, unwrap_bare
from core.models.package import Package, Part
from core.models.repository.archive import is_archive, unpack
from core.models.repository.layouts import Ignored, Repository, RepositoryKind, recognise
from core.models.repository.names import Role, is_checkpoint, role_of
from core.models.repository.plans import Plan, make_plan
from core.models.repository.preprocess import Preprocessing
from core.models.safety import FileFacts, check_file
from core.models.source import Source, SourceFile
from core.models.tensor_checks import check_tensors

#: Largest network that is built. The largest classifiers in use have about two billions.
MAX_PARAMETERS = 3_000_000_000

#: What open_clip and transformers resize with for a CLIP whose files do not say.
_USUAL_FILTER = "bicubic"
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Opened:
    """A model whose tensors are checked and fit their network.

    Attributes:
        repository: its files by what they are.
        package: how the weights lay in them.
        tensors: by the network's own keys.
        auxiliary: tensors that are carried along unchanged, by their keys in the files.
        inspection: the network.
        blueprint: what the network is built from; None: its name is enough.
        labels: class names by index; empty if the files have none.
        preprocessing: what the files or the request say.
        ignored_fields: fields of config.json that were not taken.
        facts: what the gate found out, by path.
        tokenizer: of a model of images and texts.
        choices: further blueprints that the same weights fit: the reference set decides.
    """

    repository: Repository
    package: Package
    tensors: dict[str, Tensor]
    auxiliary: dict[str, Tensor]
    inspection: Inspection
    blueprint: Blueprint | ClipBlueprint | None
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    ignored_fields: tuple[str, ...]
    facts: dict[str, FileFacts]
    tokenizer: TokenizerRules | None = None
    choices: tuple[ClipBlueprint, ...] = ()

    @property
    def declared(self) -> Declared:
        """Mean, deviation and size, as far as anybody says."""
        return self.preprocessing.declared

    @property
    def kind(self) -> ModelKind:
        """What the model is."""
        return ModelKind.CLIP if isinstance(self.blueprint, ClipBlueprint) else ModelKind.CLASSIFIER

    @property
    def text_files(self) -> dict[str, Path]:
        """What goes back unchanged, by name, among it the files of a tokenizer."""
        return {PurePosixPath(file.path).name: file.location for file in self.repository.kept}

    @property
    def file_bytes(self) -> int:
        """Of the files that the weights were read from."""
        return sum(facts.size_bytes for facts in self.facts.values())


def sort_files(source: Source, scratch: Path) -> Repository:
    """`recognise` for a source that may be one zip archive.

    Args:
        scratch: an empty folder; must stay while the repository is read.
    """
    if not is_archive(source):
        return recognise(source)
    inner, ignored = unpack(source, scratch)
    if inner is source:
        return recognise(source)
    repository = recognise(inner)
    return replace(repository, ignored=(*repository.ignored, *ignored), alone=False)


def open_model(repository: Repository, config: ScanConfig, progress: Progress) -> Opened:
    """Reads and checks the weights.

    Args:
        repository: of `sort_files`.
        config: architecture and preprocess may be asked for in it.
        progress: called with 0 to 1; may raise to stop.

    Raises:
        InvalidInputError, UnsupportedError, UnsafeError: with code, file and reason.
    """
    if repository.kind is RepositoryKind.CHECKPOINT:
        opened = _open_checkpoint(repository, config, progress)
    else:
        opened = _open_repository(repository, make_plan(repository), config, progress)
    if config.kind not in (None, opened.kind):
        what = {ModelKind.CLIP: "a model of images and texts", ModelKind.CLASSIFIER: "an image classifier"}
        raise UnsupportedError(
            "unsupported_kind",
            f"This is {what[opened.kind]}, and the request says {config.kind.value}.",
            "Send kind=auto, or the kind that the files are of.",
        )
    progress(0.9)
    at_hand = {file.path: file for file in repository.others}
    ignored = tuple(_gate(item, at_hand.get(item.path), repository.root) for item in repository.ignored)
    return replace(opened, repository=replace(repository, ignored=ignored))


def _gate(item: Ignored, file: SourceFile | None, root: str) -> Ignored:
    """What the gate says of a file that is not scanned; nothing of it is loaded.

    Other weights, which somebody could load instead, refuse the whole model if they would do harm. State of a training
    usually is a pickle of the trainer's own classes: it is named, and does not come back.
    """
    if file is None or not is_checkpoint(file.path):
        return item
    try:
        check_file(file.location, file.path)
    except AssayError as error:
        if isinstance(error, UnsafeError) and role_of(item.path.removeprefix(root))[0] is Role.CHECKPOINT:
            raise
        return replace(item, reason=f"{item.reason}; {error.code}: {error.detail}")
    return item


def _open_checkpoint(repository: Repository, config: ScanConfig, progress: Progress) -> Opened:
    file = repository.weights[0]
    raw = read_checkpoint(file.location, file.path)
    progress(0.2)
    found = unwrap(raw)
    check_tensors(found.tensors | found.auxiliary)
    progress(0.6)
    shapes = _shapes(found.tensors)
    if is_clip(shapes):
        return _lone_clip(repository, raw.facts, found, infer_clip(shapes, config.architecture), config)
    inspection = infer(shapes, config.architecture)
    return Opened(
        repository=repository,
        package=_package(repository, [found], []),
        tensors=found.tensors,
        auxiliary=found.auxiliary,
        inspection=inspection,
        blueprint=None,
        labels=(),
        preprocessing=Preprocessing(declared_preprocess(config, found, inspection.match)),
        ignored_fields=(),
        facts={file.path: raw.facts},
    )


def _lone_clip(
    repository: Repository, facts: FileFacts, found: Unwrapped, blueprints: list[ClipBlueprint], config: ScanConfig
) -> Opened:
    first = blueprints[0]
    [renamed], tensors, auxiliary = _by_own_keys(first, first.build_meta(), [found])
    source = "inferred" if config.architecture == "auto" else "request"
    return Opened(
        repository=repository,
        package=_package(repository, [renamed], []),
        tensors=tensors,
        auxiliary=auxiliary,
        inspection=Inspection(first.match, source, (), (first.name,)),
        blueprint=first,
        labels=(),
        preprocessing=Preprocessing(declared_preprocess(config, found, first.match), filter=_USUAL_FILTER),
        ignored_fields=(),
        facts={repository.weights[0].path: facts},
        tokenizer=first.tokenizer_rules(first.options),
        choices=tuple(blueprints[1:]),
    )


def _open_repository(repository: Repository, plan: Plan, config: ScanConfig, progress: Progress) -> Opened:
    blueprint = plan.blueprint
    if config.architecture not in ("auto", *blueprint.names):
        raise UnsupportedError(
            "unsupported_architecture",
            f"The configuration says {blueprint.name}, the request {config.architecture[:80]!r}.",
            "Send architecture=auto.",
        )
    module = blueprint.build_meta()
    facts: dict[str, FileFacts] = {}
    files = (*repository.weights, *repository.copies)
    read: list[Unwrapped] = []
    for number, file in enumerate(files):
        raw = read_checkpoint(file.location, file.path)
        facts[file.path] = raw.facts
        found = unwrap_bare(raw, file.path) if repository.kind is RepositoryKind.TRANSFORMERS else unwrap(raw)
        check_tensors(found.tensors | found.auxiliary)
        read.append(found)
        progress(0.6 * (number + 1) / len(files))
    shards, copies = read[: len(repository.weights)], read[len(repository.weights) :]
    if repository.index is not None:
        folder = len(repository.root)
        repository.index.check_shards(
            {
                file.path[folder:]: [key for key, _ in found.layout.keys]
                for file, found in zip(repository.weights, shards, strict=True)
            }
        )
    shards, tensors, auxiliary = _by_own_keys(blueprint, module, shards)
    inspection = blueprint.inspect(module, _shapes(tensors))
    progress(0.8)
    checked = []
    for file, copy in zip(repository.copies, copies, strict=True):
        renamed, own, _ = _by_own_keys(blueprint, module, [copy])
        _check_same(tensors, own, repository.weights[0].path, file.path)
        checked += renamed
    said = plan.preprocessing
    if inspection.match.size is not None:
        said = replace(said, declared=replace(said.declared, size=None))
    if (wanted := requested_preprocess(config, inspection.match)) is not None:
        said = replace(said, declared=wanted)
    return Opened(
        repository=repository,
        package=_package(repository, shards, checked),
        tensors=tensors,
        auxiliary=auxiliary,
        inspection=inspection,
        blueprint=blueprint,
        labels=plan.labels,
        preprocessing=said,
        ignored_fields=plan.ignored_fields,
        facts=facts,
        tokenizer=plan.tokenizer,
    )


def _by_own_keys(
    blueprint: Blueprint | ClipBlueprint, module: nn.Module, files: list[Unwrapped]
) -> tuple[list[Unwrapped], dict[str, Tensor], dict[str, Tensor]]:
    """The files with their keys renamed, and what all of them hold together: (files, tensors, auxiliary)."""
    names = blueprint.network_keys(module, [key for found in files for key in found.tensors])
    own = module.state_dict()
    said = getattr(module, "_keys_to_ignore_on_load_unexpected", None) or ()
    patterns = [re.compile(text) for text in (*said, *blueprint.spare)]
    spare = frozenset(
        key for key, name in names.items() if name not in own and any(pattern.search(name) for pattern in patterns)
    )
    tensors: dict[str, Tensor] = {}
    auxiliary: dict[str, Tensor] = {}
    renamed = [rename(found, names, spare) for found in files]
    for found in renamed:
        tensors |= found.tensors
        auxiliary |= found.auxiliary
    return renamed, tensors, auxiliary


def _check_same(tensors: dict[str, Tensor], others: dict[str, Tensor], path: str, other_path: str) -> None:
    """Two files that a library takes for the same weights hold the same weights."""
    differing = next(
        (
            key
            for key in sorted(tensors.keys() | others.keys())
            if key not in tensors or key not in others or not torch.equal(tensors[key], others[key].to(tensors[key]))
        ),
        None,
    )
    if differing is not None:
        raise UnsupportedError(
            "unsupported_several_models",
            f"{path} and {other_path} hold different weights: {differing[:120]!r} differs.",
            "Remove one of them: a verdict covers the whole repository.",
        )


def _package(repository: Repository, shards: list[Unwrapped], copies: list[Unwrapped]) -> Package:
    def parts(files: tuple[SourceFile, ...], found: list[Unwrapped]) -> tuple[Part, ...]:
        return tuple(Part(file.path, item.layout) for file, item in zip(files, found, strict=True))

    return Package(
        parts(repository.weights, shards),
        parts(repository.copies, copies),
        tuple(file.path for file in repository.kept),
        repository.alone,
    )


def _shapes(tensors: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    if not tensors:
        raise InvalidInputError("invalid_checkpoint_empty", "There are no weights.", "Save the weights again.")
    parameters = sum(tensor.numel() for tensor in tensors.values())
    if parameters > MAX_PARAMETERS:
        raise UnsupportedError(
            "unsupported_model_size",
            f"The model has {parameters} parameters; up to {MAX_PARAMETERS} can be scanned.",
            "Scan a smaller model.",
        )
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}
