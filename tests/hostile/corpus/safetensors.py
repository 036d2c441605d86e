"""safetensors files that lie (R5)."""

import json
import struct
from typing import Any

from tests.hostile.corpus.case import Case

_INVALID, _SIZE, _NAME = "invalid_checkpoint", "unsupported_checkpoint_size", "invalid_tensor_name"
FILE = "model.safetensors"


def entry(
    shape: list[Any] | Any = (2, 2), start: int = 0, end: int = 16, dtype: Any = "F32", **more: Any
) -> dict[str, Any]:
    """The description of a tensor."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]} | more


def safetensors(header: Any, data: bytes = bytes(16), length: int | None = None) -> bytes:
    """A file; the header is JSON unless it is bytes."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _case(name: str, content: Any, code: str, *words: str) -> Case:
    return Case(name, content, code, words, FILE)


def _one(**changes: Any) -> bytes:
    return safetensors({"w": entry(**changes)})


CASES = [
    _case("a header longer than the file", safetensors({}, length=1 << 20), _INVALID, "longer than the file"),
    _case("a header of 2^39 bytes", safetensors({}, length=1 << 39), _INVALID, "longer than the file"),
    _case("a header of 9 MiB", lambda: safetensors(b'{"w":' + b" " * (9 << 20) + b"1}"), _SIZE, "header"),
    _case("no JSON", safetensors(b"{{{{{{{{"), _INVALID, "JSON"),
    _case("a text without an end", lambda: safetensors(b'{"' + b'\\"' * 3_000_000), _INVALID, "JSON"),
    _case("no UTF-8", safetensors(b'{"\xff\xfe": 1}'), _INVALID, "UTF-8"),
    _case("half a character", safetensors(b'{"__metadata__": {"a": "\\ud800"}}'), _INVALID, "UTF-8"),
    _case(
        "one name twice", safetensors(b'{"w": %b, "w": %b}' % ((json.dumps(entry()).encode(),) * 2)), _INVALID, "twice"
    ),
    _case(
        "a key of an entry twice",
        safetensors(b'{"w":{"dtype":"F32","dtype":"F16","shape":[4],"data_offsets":[0,16]}}'),
        _INVALID,
        "twice",
    ),
    _case(
        "NaN in the header", safetensors(b'{"w":{"dtype":"F32","shape":[NaN],"data_offsets":[0,16]}}'), _INVALID, "NaN"
    ),
    _case("objects 100,000 deep", lambda: safetensors(b'{"a":' * 100_000 + b"1" + b"}" * 100_000), _INVALID, "deep"),
    _case(
        "a number of 100,000 digits",
        safetensors(b'{"w":{"dtype":"F32","shape":[%b],"data_offsets":[0,16]}}' % (b"9" * 100_000)),
        _INVALID,
        "absurd",
    ),
    _case("no tensors", safetensors({}, b""), "invalid_checkpoint_empty", "no tensors"),
    _case("only metadata", safetensors({"__metadata__": {"format": "pt"}}, b""), "invalid_checkpoint_empty"),
    _case("metadata that are a text", safetensors({"__metadata__": "x", "w": entry()}), _INVALID, "metadata"),
    _case("metadata that hold a number", safetensors({"__metadata__": {"a": 1}, "w": entry()}), _INVALID, "metadata"),
    _case("100 kB of metadata", safetensors({"__metadata__": {"a": "x" * 100_000}, "w": entry()}), _SIZE, "metadata"),
    _case(
        "20,001 tensors",
        lambda: safetensors({f"w{i}": entry((1,), i, i + 1, "U8") for i in range(20_001)}, bytes(20_001)),
        _SIZE,
        "20001",
    ),
    _case("a name that leads elsewhere", safetensors({"../../etc/passwd": entry()}), _NAME, "passwd"),
    _case("a name with NUL", safetensors({"w\0": entry()}), _NAME),
    _case("a name that turns the text around", safetensors({"w\u202ex": entry()}), _NAME),
    _case("a name with a space", safetensors({"w x": entry()}), _NAME),
    _case("an empty name", safetensors({"": entry()}), _NAME),
    _case("a name of 300 letters", safetensors({"w" * 300: entry()}), _NAME, "256"),
    _case("an entry that is a list", safetensors({"w": [1, 2]}), _INVALID, "w"),
    _case("an entry without a shape", safetensors({"w": {"dtype": "F32", "data_offsets": [0, 16]}}), _INVALID, "shape"),
    _case("an entry with more", _one(code="import os"), _INVALID),
    _case("a dtype that is unknown", _one(dtype="F33"), "unsupported_dtype", "F33"),
    _case("eight-bit floats", _one(dtype="F8_E4M3", shape=(16,)), "unsupported_dtype", "F8_E4M3"),
    _case("a dtype that is a list", _one(dtype=["F32"]), "unsupported_dtype"),
    _case("a negative size", _one(shape=(-2, -2)), _INVALID, "from 0 on"),
    _case("a size that is a float", _one(shape=(2.0, 2)), _INVALID),
    _case("a size that is True", _one(shape=(True, 4)), _INVALID),
    _case("a size of 2^63", _one(shape=(1 << 63,)), _INVALID),
    _case("sizes whose product wraps around", _one(shape=(1 << 32, 1 << 32)), _INVALID, "offsets give 16"),
    _case("nine dimensions", _one(shape=(1,) * 8 + (4,)), "unsupported_tensor_kind", "9 dimensions"),
    _case("no elements", safetensors({"w": entry((0, 2), 0, 0)}, b""), "invalid_weights_empty", "no elements"),
    _case("fewer bytes than the shape asks for", _one(end=12), _INVALID, "16 bytes"),
    _case("offsets the wrong way round", _one(start=16, end=0), _INVALID),
    _case("negative offsets", _one(start=-16, end=0), _INVALID),
    _case("two tensors on the same bytes", safetensors({"w": entry(), "v": entry()}), _INVALID, "over another"),
    _case(
        "two tensors that overlap",
        safetensors({"w": entry(), "v": entry(start=8, end=24)}, bytes(24)),
        _INVALID,
        "over another",
    ),
    _case("bytes in front of a tensor", safetensors({"w": entry(start=4, end=20)}, bytes(20)), _INVALID, "4 bytes"),
    _case(
        "bytes between tensors",
        safetensors({"w": entry(), "v": entry(start=20, end=36)}, bytes(36)),
        _INVALID,
        "4 bytes",
    ),
    _case("bytes behind the tensors", safetensors({"w": entry()}, bytes(16) + b"PK\x03\x04"), _INVALID, "behind"),
    _case(
        "a pickle behind the tensors",
        safetensors({"w": entry()}, bytes(16) + b"cos\nsystem\n(S'x'\ntR."),
        _INVALID,
        "behind",
    ),
    _case("truncated", safetensors({"w": entry()}, bytes(9)), _INVALID, "truncated"),
    _case(
        "NaN among the weights",
        safetensors({"conv.weight": entry()}, b"\xff" * 16),
        "invalid_weights_not_finite",
        "conv.weight",
    ),
    _case(
        "a negative variance",
        safetensors({"bn.running_var": entry((4,))}, struct.pack("<4f", 1, 1, 1, -1)),
        "invalid_weights_variance",
    ),
]
