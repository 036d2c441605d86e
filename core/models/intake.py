"""From an uploaded file to validated tensors: what the parsing child does.

Nothing in the upload is executed, and every failure is a typed error. What is written holds no byte of the upload
that was not looked at: the computing process reads nothing else.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from core.config import ScanConfig
from core.context import RunContext
from core.data.reading import read_reference
from core.data.reference import save_reference
from core.domain import ModelKind
from core.errors import AssayError, InvalidInputError, UnsupportedError
from core.models.architectures import Inspection, Match, infer
from core.models.declared import Declared, declared_preprocess
from core.models.formats import read_checkpoint
from core.models.layout import Layout, unwrap
from core.models.source import Source
from core.models.tensor_checks import check_tensors

WEIGHTS_FILE, LAYOUT_FILE, INSPECTION_FILE = "weights.safetensors", "layout.json", "inspection.json"

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
    """Validates a checkpoint and a reference set and writes them to `out_dir`.

    Writes weights.safetensors (the network's own keys), layout.json, inspection.json and, with a reference set,
    reference.safetensors and reference.json.

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
    if config.kind is not ModelKind.CLASSIFIER:
        raise UnsupportedError("unsupported_kind", f"Models of kind {config.kind.value} cannot be scanned yet.")
    out_dir.mkdir(parents=True, exist_ok=True)
    if len(source.files) != 1:
        raise UnsupportedError("unsupported_repository", f"A model of {len(source.files)} files cannot be scanned yet.")
    raw = read_checkpoint(source.files[0].location, source.files[0].path)
    ctx.checkpoint()
    found = unwrap(raw)
    check_tensors(found.tensors | found.auxiliary, raw.file_bytes)
    ctx.progress(0.3)
    inspection = infer({key: tuple(tensor.shape) for key, tensor in found.tensors.items()}, config.architecture)
    declared = declared_preprocess(config, found, inspection.match)
    ctx.progress(0.5)
    _write_weights(found.tensors | found.auxiliary, out_dir)
    size, size_source = _choose_size(config, declared, inspection.match, None)
    if reference_path is not None:

        def choose_size(native: Size | None) -> Size:
            nonlocal size, size_source
            size, size_source = _choose_size(config, declared, inspection.match, native)
            return size

        decoded = read_reference(
            reference_path,
            num_classes=inspection.match.num_classes,
            channels=inspection.match.in_channels,
            choose_size=choose_size,
            on_progress=lambda fraction: ctx.progress(0.5 + 0.5 * fraction),
        )
        save_reference(decoded, out_dir)
    report = _describe(found.layout, inspection, declared, raw.file_bytes)
    report |= {"input_size": list(size), "input_size_source": size_source}
    report["parameters"] = sum(t.numel() for t in found.tensors.values() if t.is_floating_point())
    _write_json(out_dir / LAYOUT_FILE, found.layout.to_json())
    _write_json(out_dir / INSPECTION_FILE, report)
    ctx.progress(1.0)


def _write_weights(tensors: dict[str, Tensor], out_dir: Path) -> None:
    # Copies: views, tied weights and memory maps of the upload end here.
    save_file({key: tensor.contiguous().clone() for key, tensor in tensors.items()}, str(out_dir / WEIGHTS_FILE))


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2))


def _choose_size(config: ScanConfig, declared: Declared, match: Match, native: Size | None) -> tuple[Size, str]:
    """(H, W) of the network's input, and who says so."""
    if config.preprocess is not None:
        return config.preprocess.size, "request"
    if declared.size is not None:
        return declared.size, "checkpoint metadata"
    if match.size is not None:
        return match.size, "architecture"
    if native is not None and max(native) <= _SMALL_IMAGE and min(native) >= match.min_side:
        return native, "reference images"
    return match.default_size, "architecture"


def _describe(layout: Layout, inspection: Inspection, declared: Declared, file_bytes: int) -> dict[str, Any]:
    match = inspection.match
    return {
        "container": layout.container,
        "file_bytes": file_bytes,
        "architecture": match.name,
        "architecture_source": inspection.source,
        "alternatives": [other.name for other in inspection.alternatives],
        "tried": list(inspection.tried),
        "num_classes": match.num_classes,
        "in_channels": match.in_channels,
        "stem": match.stem,
        "declared": asdict(declared),
        "dropped": layout.dropped,
        "kept": sorted(layout.extras()),
        "wrapper": ".".join(layout.path),
        "prefix": layout.prefix,
    }
