"""Pickles opcode by opcode, and torch.save archives around them."""

import struct
from typing import Any

from tests.support.zip_builder import Entry, build_zip

STOP = b"."


class Call:
    """`module.name(*arguments)`, written as a pickler of protocol 2 writes it."""

    def __init__(self, name: str, *arguments: Any, how: str = "reduce") -> None:
        self.module, _, self.name = name.rpartition(".")
        self.arguments, self.how = arguments, how


class Name(Call):
    """A global that is only named."""


class Raw(bytes):
    """Opcodes as they are."""


def encode(value: Any) -> bytes:
    """The opcodes that push `value`."""
    if isinstance(value, Raw):
        return bytes(value)
    if isinstance(value, Name):
        return f"c{value.module}\n{value.name}\n".encode()
    if isinstance(value, Call):
        name = f"c{value.module}\n{value.name}\n".encode()
        if value.how == "inst":
            return b"(" + b"".join(map(encode, value.arguments)) + b"i" + name[1:]
        if value.how == "obj":
            return b"(" + name + b"".join(map(encode, value.arguments)) + b"o"
        if value.how == "stack_global":
            name = encode(value.module) + encode(value.name) + b"\x93"
        return name + encode(value.arguments) + (b"\x81" if value.how == "newobj" else b"R")
    if value is None:
        return b"N"
    if isinstance(value, bool):
        return b"\x88" if value else b"\x89"
    if isinstance(value, int):
        if -(1 << 31) <= value < 1 << 31:
            return b"J" + struct.pack("<i", value)
        raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(raw)]) + raw
    if isinstance(value, float):
        return b"G" + struct.pack(">d", value)
    if isinstance(value, str):
        raw = value.encode()
        return b"X" + struct.pack("<I", len(raw)) + raw
    if isinstance(value, bytes):
        return b"B" + struct.pack("<I", len(value)) + value
    if isinstance(value, tuple):
        return b"(" + b"".join(map(encode, value)) + b"t"
    if isinstance(value, list):
        return b"](" + b"".join(map(encode, value)) + b"e"
    assert isinstance(value, dict)
    items = b"".join(encode(key) + encode(item) for key, item in value.items())
    return b"}(" + items + b"u"


def pickled(value: Any, protocol: int = 2) -> bytes:
    """A whole pickle."""
    return b"\x80" + bytes([protocol]) + encode(value) + STOP


def storage(key: str = "0", elements: int = 4, kind: str = "torch.FloatStorage", device: str = "cpu") -> Raw:
    """The persistent id of a storage."""
    return Raw(encode(("storage", Name(kind), key, device, elements)) + b"Q")


def tensor(
    shape: tuple[int, ...] = (2, 2),
    stride: tuple[int, ...] = (2, 1),
    offset: int = 0,
    of: Raw | None = None,
    **options: Any,
) -> Call:
    """A tensor as torch.save writes it."""
    block = storage(**options) if of is None else of
    return Call("torch._utils._rebuild_tensor_v2", block, offset, shape, stride, False, Call("collections.OrderedDict"))


def torch_zip(
    content: Any, storages: dict[str, bytes] | None = None, more: list[Entry] | None = None, **options: Any
) -> bytes:
    """A file like torch.save's: `content` is pickled unless it is bytes already."""
    pickle = content if isinstance(content, bytes) and not isinstance(content, Raw) else pickled(content)
    blocks = {"0": bytes(16)} if storages is None else storages
    entries = [Entry("archive/data.pkl", pickle), Entry("archive/byteorder", b"little")]
    entries += [Entry(f"archive/data/{key}", data) for key, data in blocks.items()]
    entries += [Entry("archive/version", b"3\n"), *(more or [])]
    return build_zip(entries, **options)
