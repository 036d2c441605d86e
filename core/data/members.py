"""The files of a reference set: members of an archive or of a folder, by name, never extracted."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from core.data.parquet import is_parquet, parquet_members
from core.data.rejects import MemberUnreadableError
from core.data.tar import is_tar, read_tar
from core.errors import InvalidInputError, UnsafeError, UnsupportedError
from core.models.safety.limits import Limits
from core.models.safety.refusals import Subject
from core.models.safety.zip_rules import mapped, open_repository_zip, unpack
from core.models.safety.zip_structure import ZipMember

#: A picture of one colour packs a hundredfold and more; nothing larger than MAX_MEMBER_BYTES is ever unpacked.
LIMITS = Limits(members=100_000, unpacked_bytes=8 << 30, ratio=1_000)
MAX_MEMBER_BYTES = 64 << 20
_NAME = "reference set"
_HINT = (
    "Send PNG, JPEG or WEBP images in a zip archive (class folders, labels.csv, captions.csv, or texts beside them), a "
    "tar archive of the kind of webdataset, or one Parquet file."
)


@dataclass(frozen=True, slots=True)
class Members:
    """Names with forward slashes, sorted, and a way to read one: `read(name)` raises MemberUnreadableError."""

    names: tuple[str, ...]
    read: Callable[[str], bytes]


@contextmanager
def open_members(path: Path) -> Iterator[Members]:
    """The members of the archive, Parquet file or folder at `path`; dot files and what macOS adds are left out.

    Raises:
        UnsupportedError: `unsupported_reference_format`: none of these; or as the rules for archives have it.
        UnsafeError, InvalidInputError: `unsafe_archive_...`, `invalid_archive`: see zip_rules.open_repository_zip and
            tar.read_tar; `invalid_parquet`, `unsupported_parquet`: see parquet.parquet_members.
    """
    if path.is_dir():
        yield _folder(path)
        return
    with path.open("rb") as file:
        head = file.read(512)
    if is_parquet(head):
        yield Members(*parquet_members(path))
        return
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        found = open_repository_zip(path, LIMITS, _NAME)
    elif is_tar(head):
        with mapped(path) as data:
            found = read_tar(data, _NAME, LIMITS)
    else:
        what = "packed as a whole (gzip)" if head.startswith(b"\x1f\x8b") else "no zip or tar archive"
        raise UnsupportedError("unsupported_reference_format", f"The reference set is {what}.", _HINT)
    members = {member.name: member for member in found}
    with mapped(path) as data:
        yield Members(
            tuple(sorted(name for name in members if not _is_clutter(name))),
            lambda name: _read(data, members[name]),
        )


def _read(data: memoryview, member: ZipMember) -> bytes:
    """Raises UnsafeError for a member that is more than it says: that is no accident."""
    if member.size > MAX_MEMBER_BYTES:
        raise MemberUnreadableError(f"longer than {MAX_MEMBER_BYTES >> 20} MiB")
    try:
        return b"".join(unpack(data, member, Subject(_NAME), LIMITS))
    except UnsafeError:
        raise
    except InvalidInputError as error:
        raise MemberUnreadableError("damaged in the archive") from error


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
        if len(names) > LIMITS.members:
            raise InvalidInputError("reference_too_large", f"More than {LIMITS.members} files.", _HINT)

    def read(name: str) -> bytes:
        with (root / name).open("rb") as file:
            content = file.read(MAX_MEMBER_BYTES + 1)
        if len(content) > MAX_MEMBER_BYTES:
            raise MemberUnreadableError(f"longer than {MAX_MEMBER_BYTES >> 20} MiB")
        return content

    return Members(tuple(sorted(name for name in names if not _is_clutter(name))), read)
