"""The structure of a zip archive, read by hand: what every reader sees is what is here, or the archive is refused.

Zip readers disagree wherever an archive is ambiguous: bytes before, between or behind the members, two ends, a
directory that says other things than the members. An archive is accepted only if its bytes are, without a gap:
local header, data, perhaps data descriptor of each member, then the directory, then one end.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from core.errors import InvalidInputError
from core.models.safety.limits import Limits
from core.models.safety.refusals import REPACK, Subject

_END, _END64, _LOCATOR64, _CENTRAL, _LOCAL, _DESCRIPTOR = (
    b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x01\x02", b"PK\x03\x04", b"PK\x07\x08",
)  # fmt: skip
_END_BYTES, _END64_BYTES, _LOCATOR64_BYTES, _CENTRAL_BYTES, _LOCAL_BYTES = 22, 56, 20, 46, 30
_SEARCHED_BYTES = 4 << 20  # for an end that is not at the end
_MAX16, _MAX32 = 0xFFFF, 0xFFFFFFFF
_UTF8, _HAS_DESCRIPTOR, _ENCRYPTED = 0x0800, 0x0008, 0x2041
_MAX_VERSION = 63  # of the format, in tenths; the newest there is
_FOLDER_ATTRIBUTE = 0x10  # of MS-DOS; torch's reader takes a member that has it for empty
STORED, DEFLATED = 0, 8
MAX_NAME_BYTES = 1_024
_ZIP64_EXTRA, _UNICODE_PATH_EXTRA = 0x0001, 0x7075


@dataclass(frozen=True, slots=True)
class ZipMember:
    """One file or folder of an archive.

    Attributes:
        name: as stored, "/" between parts; ends in "/" if it is a folder.
        method: STORED or DEFLATED.
        crc32: of the unpacked data; torch can be told to write 0 instead.
        packed_bytes, size: before and after unpacking.
        offset: of the packed data in the file.
        mode: Unix mode, 0 if unknown.
    """

    name: str
    method: int
    crc32: int
    packed_bytes: int
    size: int
    offset: int
    mode: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class _Entry(NamedTuple):
    """A member as the directory describes it."""

    raw_name: bytes
    flags: int
    method: int
    crc32: int
    packed: int
    size: int
    header: int
    mode: int


def read_members(data: memoryview, subject: Subject, limits: Limits) -> list[ZipMember]:
    """The members in the order of their data.

    Args:
        data: the whole file.

    Raises:
        InvalidInputError: `invalid_archive`: truncated or damaged.
        UnsafeError: `unsafe_archive_surplus` (bytes no member owns, a comment, a second end),
            `unsafe_archive_overlap`, `unsafe_archive_mismatch` (member and directory disagree).
        UnsupportedError: `unsupported_archive` (encryption, methods, flags, several volumes),
            `unsupported_archive_size`.
    """
    try:
        directory, size, count = _end(data, subject)
        if count > limits.members:
            raise subject.unsupported("unsupported_archive_size", f"{count} members; at most {limits.members}.", REPACK)
        entries = _directory(data, directory, size, count, subject)
        entries.sort(key=lambda entry: entry.header)
        position, members = 0, []
        for index, entry in enumerate(entries):
            end = entries[index + 1].header if index + 1 < len(entries) else directory
            if entry.header != position:
                _refuse_gap(data, position, entry.header, subject)
            members.append(_member(data, entry, end, subject))
            position = end
        if position != directory:
            _refuse_gap(data, position, directory, subject)
    except (struct.error, IndexError) as error:
        raise subject.invalid("invalid_archive", "The zip archive is damaged: a record is cut off.") from error
    return members


def _end(data: memoryview, subject: Subject) -> tuple[int, int, int]:
    """(offset of the directory, its length, number of members); the end is the last thing in the file."""
    at = len(data) - _END_BYTES
    if at < 0 or bytes(data[at : at + 4]) != _END:
        raise _without_end(data, subject)
    disk, start, here, count, size, offset, comment = struct.unpack("<4H2LH", data[at + 4 : at + _END_BYTES])
    if comment:
        raise subject.invalid("invalid_archive", "The end of the zip archive announces a comment that is not there.")
    if (disk or start or here != count) and _MAX16 not in (disk, start, here, count):
        raise subject.unsupported("unsupported_archive", "The zip archive has several volumes.", REPACK)
    limit = at
    locator = at - _LOCATOR64_BYTES
    if locator >= 0 and bytes(data[locator : locator + 4]) == _LOCATOR64:
        end64_disk, end64, disks = struct.unpack("<LQL", data[locator + 4 : at])
        if end64_disk or disks > 1:
            raise subject.unsupported("unsupported_archive", "The zip archive has several volumes.", REPACK)
        if end64 != locator - _END64_BYTES or bytes(data[end64 : end64 + 4]) != _END64:
            raise subject.unsafe(
                "unsafe_archive_mismatch", "The zip archive's two ends do not lie side by side.", REPACK
            )
        record, _, _, disk, start, here, *large = struct.unpack("<QHHLLQQQQ", data[end64 + 4 : locator])
        if record != _END64_BYTES - 12 or disk or start or here != large[0]:
            raise subject.unsafe("unsafe_archive_mismatch", "The zip archive's long end contradicts itself.", REPACK)
        for short, long, top in zip((count, size, offset), large, (_MAX16, _MAX32, _MAX32), strict=True):
            if short not in (long, top):
                raise subject.unsafe("unsafe_archive_mismatch", "The zip archive has two ends that differ.", REPACK)
        count, size, offset = large
        limit = end64
    elif _MAX16 in (count, here) or _MAX32 in (size, offset):
        raise subject.invalid("invalid_archive", "The zip archive's end refers to a long end that is not there.")
    if offset > limit or size > limit - offset:
        raise subject.invalid("invalid_archive", "The zip archive's directory would lie behind its end.")
    if offset + size < limit:
        # Either something lies between directory and end, or before the first member and offsets count from there.
        raise subject.unsafe(
            "unsafe_archive_surplus", f"{limit - offset - size} bytes belong to nothing in the zip archive.", REPACK
        )
    if bytes(data[max(0, limit - _END_BYTES) : limit]).startswith(_END):
        raise subject.unsafe("unsafe_archive_surplus", "The zip archive has two ends.", REPACK)
    return offset, size, count


def _without_end(data: memoryview, subject: Subject) -> InvalidInputError:
    """Why an archive does not end with its end: something behind it, or truncation."""
    tail = bytes(data[-_SEARCHED_BYTES:])
    behind = len(tail) - tail.rfind(_END) - _END_BYTES
    if _END not in tail or behind < 0:
        return subject.invalid("invalid_archive", "The zip archive has no end: it is truncated.")
    comment = int.from_bytes(tail[-behind - 2 : -behind], "little")
    what = "There is a comment" if comment == behind else f"{behind} bytes belong to nothing"
    return subject.unsafe("unsafe_archive_surplus", f"{what} behind the end of the zip archive.", REPACK)


def _directory(data: memoryview, offset: int, size: int, count: int, subject: Subject) -> list[_Entry]:
    entries: list[_Entry] = []
    position, end = offset, offset + size
    while position < end:
        if bytes(data[position : position + 4]) != _CENTRAL:
            raise subject.invalid("invalid_archive", "The zip archive's directory is damaged.")
        if len(entries) >= count:
            raise subject.unsafe(
                "unsafe_archive_mismatch", "The directory lists more members than its end says.", REPACK
            )
        fields = struct.unpack("<HHHHHHLLLHHHHHLL", data[position + 4 : position + _CENTRAL_BYTES])
        needed, flags, method, crc, packed, unpacked = (fields[index] for index in (1, 2, 3, 6, 7, 8))
        name_length, extra_length, comment, disk, _, attributes, header = fields[9:]
        name = bytes(data[position + _CENTRAL_BYTES : position + _CENTRAL_BYTES + name_length])
        if name_length > MAX_NAME_BYTES:  # thousands of long ones would fill the memory
            raise subject.unsafe("unsafe_archive_paths", "The name is too long.", REPACK, _shown(name))
        start = position + _CENTRAL_BYTES + name_length
        extra = bytes(data[start : start + extra_length])
        position = start + extra_length + comment
        if position > end or len(extra) != extra_length:
            raise subject.invalid("invalid_archive", "The zip archive's directory is cut off.")
        member = _shown(name)
        if comment:
            raise subject.unsafe("unsafe_archive_surplus", "A member has a comment.", REPACK, member)
        unpacked, packed, header, disk = _zip64(
            extra, name, [(unpacked, _MAX32), (packed, _MAX32), (header, _MAX32), (disk, _MAX16)], subject
        )
        if disk:
            raise subject.unsupported("unsupported_archive", "The zip archive has several volumes.", REPACK, member)
        _check_features(needed, flags, method, subject, member)
        if attributes & _FOLDER_ATTRIBUTE and not name.endswith(b"/"):
            raise subject.unsafe("unsafe_archive_mismatch", "The member is a file and a folder.", REPACK, member)
        entries.append(_Entry(name, flags, method, crc, packed, unpacked, header, attributes >> 16))
    if len(entries) != count:
        raise subject.unsafe("unsafe_archive_mismatch", "The directory lists fewer members than its end says.", REPACK)
    return entries


def _check_features(needed: int, flags: int, method: int, subject: Subject, member: str) -> None:
    if needed > _MAX_VERSION:
        raise subject.unsupported(
            "unsupported_archive", f"The member needs version {needed / 10} of the zip format.", REPACK, member
        )
    if flags & _ENCRYPTED:
        raise subject.unsupported("unsupported_archive", "The member is encrypted.", REPACK, member)
    if flags & ~(_UTF8 | _HAS_DESCRIPTOR):
        raise subject.unsupported("unsupported_archive", f"The member has the flags {flags:#06x}.", REPACK, member)
    if method not in (STORED, DEFLATED):
        raise subject.unsupported(
            "unsupported_archive", f"The member is packed with method {method}, not stored or deflated.", REPACK, member
        )


def _zip64(
    extra: bytes, name: bytes, fields: list[tuple[int, int]], subject: Subject, listed: tuple[int, ...] = ()
) -> list[int]:
    """The values of `fields` (value, placeholder), large ones from the ZIP64 extra field.

    Args:
        listed: what the directory says. torch repeats it in the extra field of a member's header without asking for
            it by a placeholder; anything else in there would be a second size.
    """
    member = _shown(name)
    found = dict(_extra_fields(extra, subject, member))
    second = found.get(_UNICODE_PATH_EXTRA)
    if second is not None and second[5:] != name:
        raise subject.unsafe("unsafe_archive_mismatch", "The member has a second name.", REPACK, member)
    values, rest = [], found.get(_ZIP64_EXTRA, b"")
    for value, placeholder in fields:
        if value == placeholder:
            width = 4 if placeholder == _MAX16 else 8
            if len(rest) < width:
                raise subject.invalid("invalid_archive", "A long size is missing.", member=member)
            value, rest = int.from_bytes(rest[:width], "little"), rest[width:]
        values.append(value)
    known = {number.to_bytes(8, "little") for number in (*values, *listed)}
    if any(rest[at : at + 8] not in known for at in range(0, len(rest), 8)):
        raise subject.unsafe("unsafe_archive_mismatch", "The member has a second, long size.", REPACK, member)
    return values


def _extra_fields(extra: bytes, subject: Subject, member: str) -> Iterator[tuple[int, bytes]]:
    """(kind, content) of each; those that change what a reader sees appear once."""
    position, seen = 0, set()
    while position < len(extra):
        kind, length = struct.unpack_from("<HH", extra.ljust(position + 4, b"\xff"), position)
        content = extra[position + 4 : position + 4 + length]
        if len(content) != length:
            raise subject.invalid("invalid_archive", "An extra field is cut off.", member=member)
        if kind in (_ZIP64_EXTRA, _UNICODE_PATH_EXTRA) and kind in seen:
            raise subject.unsafe("unsafe_archive_mismatch", "The member has one extra field twice.", REPACK, member)
        seen.add(kind)
        yield kind, content
        position += 4 + length


def _member(data: memoryview, entry: _Entry, end: int, subject: Subject) -> ZipMember:
    """Compares a member's own header with the directory; its bytes must reach exactly to `end`."""
    at, member = entry.header, _shown(entry.raw_name)
    if bytes(data[at : at + 4]) != _LOCAL:
        raise subject.invalid("invalid_archive", "The member's header is not where the directory says.", member=member)
    needed, flags, method, _, _, crc, packed, size, name_length, extra_length = struct.unpack(
        "<HHHHHLLLHH", data[at + 4 : at + _LOCAL_BYTES]
    )
    name_at = at + _LOCAL_BYTES
    start = name_at + name_length + extra_length
    if start + entry.packed > end:
        raise subject.unsafe("unsafe_archive_overlap", "The member runs into the next one.", REPACK, member)
    extra = bytes(data[name_at + name_length : start])
    if bytes(data[name_at : name_at + name_length]) != entry.raw_name:
        raise subject.unsafe("unsafe_archive_mismatch", "The member calls itself something else.", REPACK, member)
    known = (entry.size, entry.packed, entry.header)
    size, packed = _zip64(extra, entry.raw_name, [(size, _MAX32), (packed, _MAX32)], subject, known)
    if flags != entry.flags or method != entry.method:
        raise subject.unsafe(
            "unsafe_archive_mismatch", "Flags or method of the member and its directory entry differ.", REPACK, member
        )
    _check_features(needed, flags, method, subject, member)
    later = bool(flags & _HAS_DESCRIPTOR)
    for what, own, listed in (
        ("CRC", crc, entry.crc32),
        ("packed size", packed, entry.packed),
        ("size", size, entry.size),
    ):
        if own != listed and not (later and own == 0):
            raise subject.unsafe(
                "unsafe_archive_mismatch", f"The {what} of the member and its directory entry differ.", REPACK, member
            )
    _check_tail(data[start + entry.packed : end], later, entry, subject, member)
    if entry.method == STORED and entry.packed != entry.size:
        raise subject.unsafe("unsafe_archive_mismatch", "The member is stored, but with two sizes.", REPACK, member)
    return ZipMember(_name(entry, subject), method, entry.crc32, entry.packed, entry.size, start, entry.mode)


def _check_tail(tail: memoryview, later: bool, entry: _Entry, subject: Subject, member: str) -> None:
    """Behind the data there is nothing, or a descriptor that says what the directory says."""
    found = bytes(tail[:24])
    allowed = [b""]
    if later:
        bodies = [
            struct.pack("<L", entry.crc32) + struct.pack(form, entry.packed, entry.size)
            for form in (("<LL", "<QQ") if max(entry.packed, entry.size) <= _MAX32 else ("<QQ",))
        ]
        allowed = [prefix + body for body in bodies for prefix in (_DESCRIPTOR, b"")]
    if found in allowed and len(tail) == len(found):
        return
    if later and len(tail) <= 24:
        raise subject.unsafe(
            "unsafe_archive_mismatch", "The member's data descriptor and its directory entry differ.", REPACK, member
        )
    raise subject.unsafe(
        "unsafe_archive_surplus", f"{len(tail)} bytes behind the member belong to nothing.", REPACK, member
    )


def _refuse_gap(data: memoryview, position: int, header: int, subject: Subject) -> None:
    if header < position:
        raise subject.unsafe("unsafe_archive_overlap", "Two members share bytes.", REPACK)
    where = "before the first member" if position == 0 else "between members"
    raise subject.unsafe(
        "unsafe_archive_surplus", f"{header - position} bytes {where} belong to nothing in the zip archive.", REPACK
    )


def _name(entry: _Entry, subject: Subject) -> str:
    try:
        return entry.raw_name.decode()
    except UnicodeDecodeError as error:
        raise subject.invalid("invalid_archive", "A name is not UTF-8.", REPACK, _shown(entry.raw_name)) from error


def _shown(raw: bytes) -> str:
    return raw.decode(errors="replace")
