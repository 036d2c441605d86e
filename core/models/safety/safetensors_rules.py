"""safetensors files: a strict header, and tensors that tile the data exactly."""

import math
import re
from typing import Any

from core.models.safety.content import Container
from core.models.safety.facts import FileFacts, TensorFact
from core.models.safety.inert import ITEM_BYTES
from core.models.safety.json_rules import parse_object
from core.models.safety.limits import Limits
from core.models.safety.refusals import Subject, shown

_LENGTH_BYTES = 8
_NAME = re.compile(r"[A-Za-z0-9_.\-]{1,256}")
_CONVERT = "Convert the weights to float32 or float16."
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip
_INVALID = "invalid_checkpoint"
_HEADER_DEPTH = 4


def check_safetensors(data: memoryview, subject: Subject, limits: Limits) -> FileFacts:
    """Reads the header only.

    Raises:
        InvalidInputError: `invalid_checkpoint` (header or offsets), `invalid_tensor_name`, `invalid_weights_empty`.
        UnsupportedError: `unsupported_dtype`, `unsupported_tensor_kind`, `unsupported_checkpoint_size`.
    """
    header_bytes = int.from_bytes(data[:_LENGTH_BYTES], "little")
    if header_bytes > len(data) - _LENGTH_BYTES:
        raise subject.invalid(_INVALID, f"The header would be {header_bytes} bytes long, longer than the file.")
    if header_bytes > limits.header_bytes:
        raise subject.unsupported(
            "unsupported_checkpoint_size", f"A header of {header_bytes} bytes; at most {limits.header_bytes} are read."
        )
    start = _LENGTH_BYTES + header_bytes
    raw = bytes(data[_LENGTH_BYTES:start])
    header = parse_object(raw, subject, _INVALID, limits.header_bytes, _HEADER_DEPTH)
    metadata = _metadata(header.pop("__metadata__", None), subject, limits)
    if not header:
        raise subject.invalid("invalid_checkpoint_empty", "There are no tensors in the file.")
    if len(header) > limits.tensors:
        raise subject.unsupported(
            "unsupported_checkpoint_size", f"{len(header)} tensors; at most {limits.tensors} are read."
        )
    tensors = {name: _tensor(name, entry, start, subject, limits) for name, entry in header.items()}
    _check_tiling(tensors, start, len(data), subject)
    return FileFacts(Container.SAFETENSORS, len(data), tensors=tensors, metadata=metadata)


def _metadata(value: Any, subject: Subject, limits: Limits) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise subject.invalid(_INVALID, "The metadata are no object of texts.", member="__metadata__")
    size = sum(len(key.encode()) + len(text.encode()) for key, text in value.items())
    if size > limits.metadata_bytes:
        raise subject.unsupported(
            "unsupported_checkpoint_size",
            f"{size} bytes of metadata; at most {limits.metadata_bytes} are read.",
            member="__metadata__",
        )
    return value


def _tensor(name: str, entry: Any, start: int, subject: Subject, limits: Limits) -> TensorFact:
    if not _NAME.fullmatch(name):
        raise subject.invalid(
            "invalid_tensor_name",
            "A tensor's name holds other than letters, digits, '_', '.' and '-', or more than 256 of them.",
            member=name,
        )
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise subject.invalid(_INVALID, "The tensor's entry is not dtype, shape and data_offsets.", member=name)
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2:
        raise subject.invalid(_INVALID, "Shape or offsets of the tensor are not numbers from 0 on.", member=name)
    if len(shape) > limits.rank:
        raise subject.unsupported(
            "unsupported_tensor_kind", f"The tensor has {len(shape)} dimensions; at most {limits.rank}.", member=name
        )
    if not isinstance(entry["dtype"], str) or entry["dtype"] not in _DTYPES:
        raise subject.unsupported(
            "unsupported_dtype", f"The tensor has dtype {shown(str(entry['dtype']))!r}.", _CONVERT, name
        )
    dtype = _DTYPES[entry["dtype"]]
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if size == 0:
        raise subject.invalid("invalid_weights_empty", f"The tensor has no elements: {tuple(shape)}.", member=name)
    if offsets[1] - offsets[0] != size:
        raise subject.invalid(
            _INVALID, f"The tensor needs {size} bytes, its offsets give {offsets[1] - offsets[0]}.", member=name
        )
    return TensorFact(dtype, tuple(shape), start + offsets[0], size)


def _is_counts(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 62 for item in value)


def _check_tiling(tensors: dict[str, TensorFact], start: int, end: int, subject: Subject) -> None:
    position = start
    for name, fact in sorted(tensors.items(), key=lambda item: item[1].offset or 0):
        assert fact.offset is not None
        if fact.offset < position:
            raise subject.invalid(_INVALID, "The tensor lies over another one.", member=name)
        if fact.offset > position:
            raise subject.invalid(
                _INVALID, f"{fact.offset - position} bytes before the tensor belong to none.", member=name
            )
        position += fact.size_bytes
    if position > end:
        raise subject.invalid(_INVALID, f"The file is truncated: {position - end} bytes of tensors are missing.")
    if position < end:
        raise subject.invalid(_INVALID, f"{end - position} bytes behind the last tensor belong to none.")
