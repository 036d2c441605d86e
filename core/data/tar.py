"""The members of an uncompressed tar archive (the shards of webdataset), by our own walk over its headers.

Only regular files count; links and devices are refused, whatever they point at. Nothing is extracted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from core.models.safety.limits import Limits
from core.models.safety.refusals import REPACK, Subject
from core.models.safety.zip_rules import check_names, check_sizes
from core.models.safety.zip_structure import STORED, ZipMember

_BLOCK = 512
_MAX_EXTENDED = 1 << 20  # one header of long names
_MAGIC = b"ustar"
_FILE, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME = b"x", b"g", b"L"
_OCTAL = re.compile(rb" *([0-7]{1,12})[ \0]*")
_RECORD = re.compile(rb"([1-9][0-9]{0,6}) ([^=\n]{1,256})=")
_LINKS = {b"1": "a hard link", b"2": "a link", b"3": "a device", b"4": "a device", b"6": "a pipe"}


@dataclass(frozen=True, slots=True)
class _Header:
    name: str
    kind: bytes
    size: int
    data: int  # where its data begin


def is_tar(head: bytes) -> bool:
    """Whether the first 512 bytes of a file are a header of POSIX or GNU tar."""
    return head[257:262] == _MAGIC


def read_tar(data: memoryview, name: str, limits: Limits) -> list[ZipMember]:
    """The files in a tar archive, in the order of their data, as members of an archive that stores without packing.

    Args:
        data: all of it.
        name: what its owner calls it, for messages.

    Raises:
        InvalidInputError: `invalid_archive`: damaged, cut off or empty.
        UnsafeError: `unsafe_archive_links`, and as zip_rules.check_names has it.
        UnsupportedError: `unsupported_archive_size`, `unsupported_archive` (sparse members).
    """
    subject = Subject(name)
    files = [
        ZipMember(header.name, STORED, 0, header.size, header.size, header.data, 0)
        for header in _headers(data, subject, limits)
        if header.kind in _FILE
    ]
    check_names(files, subject)
    check_sizes(files, subject, limits)
    if not files:
        raise subject.invalid("invalid_archive", "The tar archive holds no files.", REPACK)
    return files


def _headers(data: memoryview, subject: Subject, limits: Limits) -> Iterator[_Header]:
    """Files and folders, under the names that extended headers before them give."""
    at, count, long_name = 0, 0, ""
    while at + _BLOCK <= len(data):
        block = bytes(data[at : at + _BLOCK])
        if not any(block):
            return  # two blocks of zeros are the end; some writers fill up with more
        header = _parse(block, at, subject)
        end = header.data + header.size
        if end > len(data):
            raise subject.invalid("invalid_archive", "The tar archive is cut off.", member=header.name)
        count += 1
        if count > limits.members:
            raise subject.unsupported("unsupported_archive_size", f"More than {limits.members} members.", REPACK)
        at = end + -header.size % _BLOCK
        if header.kind in (_PAX, _LONG_NAME):
            if header.size > _MAX_EXTENDED:
                raise subject.invalid("invalid_archive", "A name in the tar archive is too long.", REPACK)
            content = bytes(data[header.data : end])
            long_name = _text(content.rstrip(b"\0"), subject) if header.kind == _LONG_NAME else _path(content, subject)
        elif header.kind == _PAX_GLOBAL:
            continue
        elif header.kind == _FOLDER or header.kind in _FILE:
            yield _Header(_plain(long_name or header.name), header.kind, header.size, header.data)
            long_name = ""
        else:
            what = _LINKS.get(header.kind, "no plain file")
            raise subject.unsafe("unsafe_archive_links", f"It is {what}.", REPACK, header.name)
    raise subject.invalid("invalid_archive", "The tar archive has no end.")


def _parse(block: bytes, at: int, subject: Subject) -> _Header:
    stored = _number(block[148:156], subject)
    if stored != sum(block) - sum(block[148:156]) + 8 * 0x20 or not is_tar(block):
        raise subject.invalid("invalid_archive", "A header of the tar archive is damaged.")
    name = _text(block[:100].split(b"\0")[0], subject)
    if block[257:263] == b"ustar\0" and block[345]:  # GNU tar keeps times there
        name = _text(block[345:500].split(b"\0")[0], subject) + "/" + name
    return _Header(name, block[156:157], _number(block[124:136], subject), at + _BLOCK)


def _number(field: bytes, subject: Subject) -> int:
    if field[0] == 0x80:  # base 256, for what octal digits cannot hold
        return int.from_bytes(field[1:], "big")
    match = _OCTAL.fullmatch(field.rstrip(b"\0 ") or b"0")
    if match is None:
        raise subject.invalid("invalid_archive", "A header of the tar archive is damaged.")
    return int(match[1], 8)


def _path(content: bytes, subject: Subject) -> str:
    """The path in a header of POSIX.1-2001: records of "length key=value", each with its line end."""
    path, at = "", 0
    while at < len(content):
        match = _RECORD.match(content, at)
        end = at + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(content) or content[end - 1 : end] != b"\n":
            raise subject.invalid("invalid_archive", "An extended header of the tar archive is damaged.")
        value = content[match.end() : end - 1]
        if match[2] == b"path":
            path = _text(value, subject)
        elif match[2] == b"size" or match[2].startswith(b"GNU.sparse"):
            raise subject.unsupported("unsupported_archive", "A member is sparse or larger than 8 GiB.", REPACK)
        at = end
    return path


def _plain(name: str) -> str:
    """Many writers put ./ before every name."""
    return name.removeprefix("./")


def _text(raw: bytes, subject: Subject) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise subject.invalid("invalid_archive", "A name in the tar archive is no UTF-8 text.", REPACK) from None
