"""Zip archives byte by byte, so that every field can be a lie."""

import struct
import zlib
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Entry:
    """One member; what is None is what an honest writer would put there."""

    name: str | bytes
    data: bytes = b""
    method: int = 0
    flags: int = 0
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    local: dict[str, Any] = field(default_factory=dict)  # fields of the local header that differ
    extra: bytes = b""
    local_extra: bytes = b""
    comment: bytes = b""
    mode: int = 0
    descriptor: bytes | None = None  # with flag 8: what follows the data instead of the right one
    header_offset: int | None = None  # what the directory says
    tail: bytes = b""  # after the member
    disk: int = 0

    @property
    def raw_name(self) -> bytes:
        return self.name if isinstance(self.name, bytes) else self.name.encode()

    @property
    def packed_data(self) -> bytes:
        if self.method != 8:
            return self.data
        engine = zlib.compressobj(9, zlib.DEFLATED, -15)
        return engine.compress(self.data) + engine.flush()


def build_zip(
    entries: list[Entry],
    *,
    prefix: bytes = b"",
    before_directory: bytes = b"",
    after_directory: bytes = b"",
    comment: bytes = b"",
    trailing: bytes = b"",
    count: int | None = None,
    offset_shift: int = 0,
    zip64: bool = False,
    end_overrides: dict[str, int] | None = None,
) -> bytes:
    """The archive; offsets count from the start of the file, prefix included."""
    out = bytearray(prefix)
    directory = bytearray()
    for entry in entries:
        packed = entry.packed_data
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        size = len(entry.data) if entry.size is None else entry.size
        length = len(packed) if entry.packed is None else entry.packed
        at = len(out) if entry.header_offset is None else entry.header_offset
        later = bool(entry.flags & 8)
        own = {"name": entry.raw_name, "method": entry.method, "flags": entry.flags}
        own |= {"crc": 0 if later else crc, "size": 0 if later else size, "packed": 0 if later else length}
        own |= entry.local
        out += struct.pack(
            "<4sHHHHHLLLHH", b"PK\x03\x04", 20, own["flags"], own["method"], 0, 0x21, own["crc"], own["packed"],
            own["size"], len(own["name"]), len(entry.local_extra),
        )  # fmt: skip
        out += own["name"] + entry.local_extra + packed
        if entry.descriptor is not None:
            out += entry.descriptor
        elif later:
            out += b"PK\x07\x08" + struct.pack("<LLL", crc, length, size)
        out += entry.tail
        directory += struct.pack(
            "<4sHHHHHHLLLHHHHHLL", b"PK\x01\x02", 0x0314, 20, entry.flags, entry.method, 0, 0x21, crc, length, size,
            len(entry.raw_name), len(entry.extra), len(entry.comment), entry.disk, 0, entry.mode << 16, at,
        )  # fmt: skip
        directory += entry.raw_name + entry.extra + entry.comment
    out += before_directory
    start = len(out) + offset_shift
    out += directory + after_directory
    number = len(entries) if count is None else count
    if zip64:
        at = len(out)
        out += struct.pack("<4sQHHLLQQQQ", b"PK\x06\x06", 44, 45, 45, 0, 0, number, number, len(directory), start)
        out += struct.pack("<4sLQL", b"PK\x06\x07", 0, at, 1)
    end = {"disk": 0, "start": 0, "here": number & 0xFFFF, "count": number & 0xFFFF}
    end |= {"size": len(directory), "offset": start, "comment": len(comment)} | (end_overrides or {})
    out += struct.pack(
        "<4sHHHHLLH", b"PK\x05\x06", end["disk"], end["start"], end["here"], end["count"], end["size"],
        end["offset"], end["comment"],
    )  # fmt: skip
    return bytes(out + comment + trailing)
