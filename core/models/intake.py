"""From an uploaded file to validated tensors: what the parsing child does.

Nothing in the upload is executed, and every failure is a typed error. What is written holds no byte of the upload
that was not looked at: the computing process reads nothing else.
"""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from core.config import ScanConfig
from core.context import RunContext
from core.data.reading import DecodedReference, read_pairs, read_reference
from core.data.reference import save_reference
from core.domain import ModelKind
from core.errors import AssayError, InvalidInputError
from core.models.architectures import Match
from core.models.clip.intake import write_texts
from core.models.declared import Declared
from core.models.repository.opening import Opened, open_model, sort_files
from core.models.safety import FileFacts
from core.models.source import Source

WEIGHTS_FILE, INSPECTION_FILE = "weights.safetensors", "inspection.json"

#: Reference images up to this size are taken as they are; larger ones are brought to the network's usual size.
_SMALL_IMAGE = 64
Size = tuple[int, int]


def intake(
    source: Source,
    reference_path: Path | None,
    config: ScanConfig,
    out_dir: Path,
    ctx: RunContext,
) -> None:
    """Validates a model and a reference set and writes them to `out_dir`.

    Writes weights.safetensors (the network's own keys), layout.json and kept/ (see core.models.package),
    inspection.json and, with a reference set, reference.safetensors and reference.json; for a model of images and
    texts texts.safetensors, if there are any (see core.models.clip.texts).

    Args:
        source: the files of the model.
        reference_path: zip archive or folder; None without a reference set.
        config: architecture and preprocess may be asked for in it.
        out_dir: created.
        ctx: progress and cancellation.

    Raises:
        InvalidInputError, UnsupportedError, UnsafeError: with code, reason and hint.
        CanceledError: ctx asked to stop.
    """
    try:
        _intake(source, reference_path, config, out_dir, ctx)
    except AssayError:
        raise
    except OSError:  # the disk's fault, not the input's
        raise
    except Exception as error:  # parsers raise whatever they like at foreign bytes: it is about the bytes
        raise InvalidInputError(
            "invalid_input",
            f"The files cannot be read ({type(error).__name__}).",
            "Compare their digests with those at their source and upload them again.",
        ) from error


def _intake(source: Source, reference_path: Path | None, config: ScanConfig, out_dir: Path, ctx: RunContext) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="unpacked-") as scratch:
        opened = open_model(sort_files(source, Path(scratch)), config, lambda fraction: ctx.progress(0.5 * fraction))
        if opened.kind is ModelKind.CLASSIFIER and (config.vocabulary or config.templates):
            raise InvalidInputError(
                "invalid_vocabulary",
                "The model is a classifier, which has its own classes; vocabulary and templates are for models of "
                "images and texts.",
                "Leave them out.",
            )
        _write_weights(opened.tensors | opened.auxiliary, out_dir)
        opened.package.save(out_dir, {file.path: file.location for file in opened.repository.kept})
    match = opened.inspection.match
    size, size_source = choose_size(config, opened.declared, match, None)
    decoded = None
    if reference_path is not None:

        def choose(native: Size | None) -> Size:
            nonlocal size, size_source
            size, size_source = choose_size(config, opened.declared, match, native)
            return size

        decoded = _read(reference_path, opened, config, choose, lambda fraction: ctx.progress(0.5 + 0.5 * fraction))
        save_reference(decoded, out_dir)
    report = describe_model(opened) | {"input_size": list(size), "input_size_source": size_source}
    if opened.tokenizer is not None:
        kept = {PurePosixPath(path).name: location for path, location in opened.package.kept_files(out_dir).items()}
        report["vocabulary"] = write_texts(opened.tokenizer, kept, config, decoded, out_dir)
    (out_dir / INSPECTION_FILE).write_text(json.dumps(report, indent=2))
    ctx.progress(1.0)


def _read(
    path: Path,
    opened: Opened,
    config: ScanConfig,
    choose: Callable[[Size | None], Size],
    on_progress: Callable[[float], None],
) -> DecodedReference:
    """The reference set, as the model takes images."""
    common: dict[str, Any] = {
        "crop": opened.preprocessing.crop or 1.0,
        "resample": opened.preprocessing.filter,
        "squash": opened.preprocessing.squash,
        "channels": opened.inspection.match.in_channels,
        "choose_size": choose,
        "on_progress": on_progress,
    }
    if opened.kind is ModelKind.CLIP:
        return read_pairs(path, vocabulary=config.vocabulary, **common)
    classes = opened.inspection.match.num_classes
    return read_reference(path, num_classes=classes, class_names=opened.labels, **common)


def _write_weights(tensors: dict[str, Tensor], out_dir: Path) -> None:
    # Copies: views, tied weights and memory maps of the upload end here.
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, str(out_dir / WEIGHTS_FILE))


def choose_size(config: ScanConfig, declared: Declared, match: Match, native: Size | None) -> tuple[Size, str]:
    """(H, W) of the network's input, and who says so; `native` is the one size of the reference images, if any."""
    if config.preprocess is not None:
        return config.preprocess.size, "request"
    if declared.size is not None:
        return declared.size, "checkpoint metadata"
    if match.size is not None:
        return match.size, "architecture"
    if native is not None and max(native) <= _SMALL_IMAGE and min(native) >= match.min_side:
        return native, "reference images"
    return match.default_size, "architecture"


def describe_model(opened: Opened) -> dict[str, Any]:
    """Everything that is known about a model before it is run, as JSON."""
    match, repository = opened.inspection.match, opened.repository
    first = opened.package.first
    not_scanned = [{"path": item.path, "reason": item.reason} for item in repository.ignored]
    not_scanned += [
        {"path": f"{part.path}, {name}", "reason": "not needed to load the weights: left out"}
        for part in opened.package.parts
        for name in part.layout.dropped
    ]
    return {
        "kind": opened.kind.value,
        "layout": repository.kind.value,
        "container": first.container,
        "file_bytes": opened.file_bytes,
        "files": [describe_file(path, facts) for path, facts in opened.facts.items()],
        "not_scanned": not_scanned,
        "architecture": match.name,
        "architecture_source": opened.inspection.source,
        "alternatives": [other.name for other in opened.inspection.alternatives],
        "tried": list(opened.inspection.tried),
        "blueprint": None if opened.blueprint is None else opened.blueprint.to_json(),
        "choices": [blueprint.to_json() for blueprint in opened.choices],
        "ignored_fields": list(opened.ignored_fields),
        "num_classes": match.num_classes,
        "labels": list(opened.labels),
        "in_channels": match.in_channels,
        "stem": match.stem,
        "declared": asdict(opened.declared),
        "crop": opened.preprocessing.crop,
        "filter": opened.preprocessing.filter,
        "squash": opened.preprocessing.squash,
        "dropped": opened.package.dropped,
        "kept": sorted(first.extras()),
        "wrapper": ".".join(first.path),
        "prefix": first.prefix,
        "parameters": sum(t.numel() for t in opened.tensors.values() if t.is_floating_point()),
    }


def describe_file(path: str, facts: FileFacts) -> dict[str, Any]:
    """A file that the gate let pass, as JSON."""
    opinion = facts.second_opinion
    return {
        "path": path,
        "size_bytes": facts.size_bytes,
        "container": facts.container.value,
        "tensors": len(facts.tensors),
        "globals": list(facts.globals),
        "second_opinion": None
        if opinion is None
        else {
            "scanner": opinion.scanner,
            "dangerous": list(opinion.dangerous),
            "suspicious": list(opinion.suspicious),
            "error": opinion.error,
        },
    }
