"""Which zip archives are read, and how their members are unpacked."""

import contextlib
import mmap
import os
import stat
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.models.safety.limits import DEFAULT, Limits
from core.models.safety.refusals import REPACK, Subject
from core.models.safety.zip_structure import DEFLATED, STORED, ZipMember, read_members

_CHUNK = 1 << 20
_MAX_PART_BYTES, _MAX_PARTS = 255, 32


@contextlib.contextmanager
def mapped(location: Path) -> Iterator[memoryview]:
    """The bytes of a file that is not empty, read-only and without a copy."""
    with location.open("rb") as file:
        # Never closed by hand: the traceback of an error may still hold slices of it; it goes with the last of them.
        yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def open_repository_zip(location: Path, limits: Limits = DEFAULT, name: str | None = None) -> list[ZipMember]:
    """The files in an uploaded zip archive of a repository, in the order of their data; folders are left out.

    Args:
        name: what its owner calls it, for messages.

    Raises:
        InvalidInputError, UnsafeError, UnsupportedError: see zip_structure.read_members and `check_names`; also
            `invalid_archive` (empty) and `unsafe_archive_bomb`.
    """
    subject = Subject(name or "archive")
    if location.stat().st_size == 0:
        raise subject.invalid("invalid_archive", "The file is empty.")
    with mapped(location) as data:
        members = read_members(data, subject, limits)
    check_names(members, subject)
    check_sizes(members, subject, limits)
    files = [member for member in members if not member.is_folder]
    if not files:
        raise subject.invalid("invalid_archive", "The zip archive holds no files.", REPACK)
    return files


def copy_member(
    location: Path, member: ZipMember, destination: Path, limits: Limits = DEFAULT, name: str | None = None
) -> None:
    """Unpacks one member into the new file `destination`, counting every byte; nothing is left on failure.

    Raises:
        InvalidInputError: `invalid_archive`: damaged, or not as long as it says.
        UnsafeError: `unsafe_archive_bomb`: longer than it says.
        FileExistsError: `destination` exists.
    """
    subject = Subject(name or "archive")
    fd = os.open(destination, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(fd, "wb") as file, mapped(location) as data:
            for chunk in unpack(data, member, subject, limits):
                file.write(chunk)
    except BaseException:
        destination.unlink(missing_ok=True)
        raise


def unpack(data: memoryview, member: ZipMember, subject: Subject, limits: Limits) -> Iterator[memoryview | bytes]:
    """The unpacked data of a member in pieces of at most 1 MiB; ends with an error if size or CRC is not what
    the directory says."""
    packed = data[member.offset : member.offset + member.packed_bytes]
    total, crc = 0, 0
    for chunk in _chunks(packed) if member.method == STORED else _inflate(packed, member, subject):
        total += len(chunk)
        if total > min(member.size, limits.unpacked_bytes):
            raise subject.unsafe("unsafe_archive_bomb", "The member unpacks to more than it says.", REPACK, member.name)
        crc = zlib.crc32(chunk, crc)
        yield chunk
    if total != member.size:
        raise subject.invalid("invalid_archive", "The member is shorter than it says.", member=member.name)
    if crc != member.crc32 and not (member.crc32 == 0 and member.method == STORED):
        raise subject.invalid("invalid_archive", "The member's bytes and its CRC differ.", member=member.name)


def check_names(members: Sequence[ZipMember], subject: Subject) -> None:
    """Refuses names that lead elsewhere, and names that some file system takes for the same.

    Raises:
        UnsafeError: `unsafe_archive_paths`, `unsafe_archive_links`, `unsafe_archive_duplicates`.
    """
    seen: dict[str, str] = {}
    for member in members:
        reason = _bad_name(member.name)
        if reason:
            raise subject.unsafe("unsafe_archive_paths", reason, REPACK, member.name)
        kind = stat.S_IFMT(member.mode)
        if kind not in (0, stat.S_IFDIR if member.is_folder else stat.S_IFREG):
            raise subject.unsafe("unsafe_archive_links", "It is a link or device, not a file.", REPACK, member.name)
        folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", member.name).casefold()).rstrip("/")
        if folded in seen:
            raise subject.unsafe(
                "unsafe_archive_duplicates", f"There are two members called {seen[folded]!r}.", REPACK, member.name
            )
        seen[folded] = member.name
    for folded, name in seen.items():
        parts = folded.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent in seen and not seen[parent].endswith("/"):
                raise subject.unsafe(
                    "unsafe_archive_duplicates", f"{seen[parent]!r} is a file and a folder.", REPACK, name
                )


def check_sizes(members: Sequence[ZipMember], subject: Subject, limits: Limits) -> None:
    """Refuses archives that unpack to too much, going by what they say; `unpack` counts again.

    Raises:
        UnsafeError: `unsafe_archive_bomb`.
        UnsupportedError: `unsupported_archive_size`.
    """
    for member in members:
        if member.size > limits.ratio * max(member.packed_bytes, 1):
            raise subject.unsafe(
                "unsafe_archive_bomb",
                f"{member.packed_bytes} bytes would unpack to {member.size}: more than {limits.ratio}-fold.",
                REPACK,
                member.name,
            )
        if member.is_folder and (member.size or member.packed_bytes):
            raise subject.unsafe("unsafe_archive_paths", "It is a folder with content.", REPACK, member.name)
    total = sum(member.size for member in members)
    if total > limits.unpacked_bytes:
        raise subject.unsupported(
            "unsupported_archive_size", f"It unpacks to {total} bytes; at most {limits.unpacked_bytes}.", REPACK
        )


def _bad_name(name: str) -> str:
    if name.count("/") >= _MAX_PARTS or any(len(part.encode()) > _MAX_PART_BYTES for part in name.split("/")):
        return "The name is too long."
    if any(unicodedata.category(char) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp") for char in name):
        return "The name holds control or invisible characters."
    if "\\" in name:
        return "The name holds a backslash."
    if name.startswith("/") or name[1:2] == ":":
        return "The name is an absolute path."
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "The name leads out of its folder."
    if "" in parts or "." in parts:
        return "The name has empty parts."
    return ""


def _chunks(data: memoryview) -> Iterator[memoryview]:
    for start in range(0, len(data), _CHUNK):
        yield data[start : start + _CHUNK]


def _inflate(data: memoryview, member: ZipMember, subject: Subject) -> Iterator[bytes]:
    assert member.method == DEFLATED
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    fed = 0
    try:
        for chunk in _chunks(data):
            if engine.eof:
                break
            fed += len(chunk)
            rest: bytes | memoryview = chunk
            while len(rest) and not engine.eof:
                yield engine.decompress(rest, _CHUNK)
                rest = engine.unconsumed_tail
        while not engine.eof:
            tail = engine.decompress(b"", _CHUNK)
            if not tail:
                break
            yield tail
    except zlib.error as error:
        raise subject.invalid("invalid_archive", "The member's packed data are damaged.", member=member.name) from error
    if not engine.eof:
        raise subject.invalid("invalid_archive", "The member's packed data are cut off.", member=member.name)
    if fed - len(engine.unused_data) != len(data):
        raise subject.unsafe(
            "unsafe_archive_surplus", "There are bytes behind the member's packed data.", REPACK, member.name
        )
