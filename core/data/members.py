"""The files of a reference set: members of a zip archive or of a folder, by name, never extracted."""

import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.errors import InvalidInputError, UnsafeError, UnsupportedError

MAX_MEMBERS = 100_000
MAX_MEMBER_BYTES = 64 << 20
MAX_TOTAL_BYTES = 8 << 30
_HINT = "Send a zip archive of class folders with PNG, JPEG or WEBP images, or of images and labels.csv."


@dataclass(frozen=True, slots=True)
class Members:
    """Names with forward slashes, sorted, and a way to read one: `read(name)` raises MemberUnreadableError."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """The members of the archive or folder at `path`; dot files and what macOS adds are left out.

    Raises:
        UnsupportedError: `unsupported_reference_format`: neither zip nor folder.
        UnsafeError: `unsafe_reference_archive`: names that lead outside, links, encryption, too much data.
        InvalidInputError: `invalid_reference`: damaged.
    """
    if path.is_dir():
        yield _folder(path)
        return
    with path.open("rb") as file:
        head = file.read(4)
    if head not in (b"PK\x03\x04", b"PK\x05\x06"):
        raise UnsupportedError("unsupported_reference_format", "The reference set is no zip archive.", _HINT)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError) as error:
        raise InvalidInputError("invalid_reference", f"The zip archive is damaged: {error}.", _HINT) from error
    with archive:
        yield _archive(archive)


class MemberUnreadableError(ValueError):
    """One member cannot be read; the text is the reason."""


def _archive(archive: zipfile.ZipFile) -> Members:
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_MEMBERS:
        raise InvalidInputError("reference_too_large", f"{len(infos)} files; at most {MAX_MEMBERS}.", _HINT)
    for info in infos:
        _check_name(info.filename)
        mode = info.external_attr >> 16
        if mode and stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise UnsafeError("unsafe_reference_archive", f"{info.filename[:120]!r} is a link or a device.", _HINT)
        if info.flag_bits & 1:
            raise UnsafeError("unsafe_reference_archive", "The archive is encrypted.", _HINT)
    if sum(info.file_size for info in infos) > MAX_TOTAL_BYTES:
        raise UnsafeError("unsafe_reference_archive", "The archive unpacks to too much data.", _HINT)
    names = [info.filename for info in infos]
    if len(set(names)) != len(names):
        raise UnsafeError("unsafe_reference_archive", "The archive holds two files of one name.", _HINT)

    def read(name: str) -> bytes:
        try:
            with archive.open(name) as member:
                return _limited(member.read(MAX_MEMBER_BYTES + 1))
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
            raise MemberUnreadableError("damaged in the archive") from error

    return Members(tuple(sorted(name for name in names if not _is_clutter(name))), read)


def _check_name(name: str) -> None:
    parts = name.split("/")
    if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]:
        raise UnsafeError("unsafe_reference_archive", f"The name {name[:120]!r} leads out of the archive.", _HINT)


def _is_clutter(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return any(part.startswith(".") or part == "__MACOSX" for part in parts) or parts[-1] in (
        "Thumbs.db",
        "desktop.ini",
    )


def _folder(root: Path) -> Members:
    names: list[str] = []
    for folder, _, files in os.walk(root, followlinks=False):
        for file in files:
            path = Path(folder) / file
            if path.is_symlink() or not path.is_file():
                continue
            names.append(path.relative_to(root).as_posix())
        if len(names) > MAX_MEMBERS:
            raise InvalidInputError("reference_too_large", f"More than {MAX_MEMBERS} files.", _HINT)

    def read(name: str) -> bytes:
        with (root / name).open("rb") as file:
            return _limited(file.read(MAX_MEMBER_BYTES + 1))

    return Members(tuple(sorted(name for name in names if not _is_clutter(name))), read)


def _limited(content: bytes) -> bytes:
    if len(content) > MAX_MEMBER_BYTES:
        raise MemberUnreadableError(f"longer than {MAX_MEMBER_BYTES >> 20} MiB")
    return content
