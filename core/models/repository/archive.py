"""A repository in one zip archive: its files unpacked into a scratch folder, as far as a scan needs them."""

from pathlib import Path

from core.errors import InvalidInputError
from core.manifest import MAX_FILES
from core.models.repository.layouts import Ignored
from core.models.repository.names import Role, role_of
from core.models.safety.zip_rules import copy_member, open_repository_zip
from core.models.safety.zip_structure import ZipMember
from core.models.source import Source, SourceFile

_SUFFIX = ".zip"
#: What archivers and version control add.
_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", ".git")


def is_archive(source: Source) -> bool:
    """Whether the source is one file called a zip archive."""
    return len(source.files) == 1 and source.files[0].path.lower().endswith(_SUFFIX)


def unpack(source: Source, scratch: Path) -> tuple[Source, tuple[Ignored, ...]]:
    """The files of the archive that a scan looks at, and those it leaves packed.

    Args:
        source: one file, see `is_archive`. If it was written by torch.save it comes back as it is.
        scratch: an empty folder.

    Raises:
        InvalidInputError, UnsafeError, UnsupportedError: see safety.zip_rules; also `invalid_archive` (too many
            files).
    """
    file = source.files[0]
    members = open_repository_zip(file.location, name=file.path)
    if any(member.name.endswith("/data.pkl") for member in members):
        return source, ()
    members = [member for member in members if not _is_litter(member)]
    if not 1 <= len(members) <= MAX_FILES:
        raise InvalidInputError(
            "invalid_archive", f"{file.path}: {len(members)} files; 1 to {MAX_FILES} are taken.", "Pack the model only."
        )
    root = _root(members)
    wanted: list[SourceFile] = []
    ignored: list[Ignored] = []
    for member in members:
        role, reason = role_of(member.name.removeprefix(root))
        if role is Role.IGNORED:
            ignored.append(Ignored(member.name, reason))
            continue
        location = scratch / str(len(wanted))
        copy_member(file.location, member, location, name=file.path)
        wanted.append(SourceFile(member.name, location))
    if not wanted:
        raise InvalidInputError(
            "invalid_repository",
            f"{file.path} holds no checkpoint; there is {ignored[0].path[:80]} ({ignored[0].reason}).",
            "Pack the weights with their configuration.",
        )
    return Source(tuple(wanted)), tuple(ignored)


def _is_litter(member: ZipMember) -> bool:
    return any(part in _LITTER for part in member.name.split("/"))


def _root(members: list[ZipMember]) -> str:
    """The one folder at the top that everything is in, with a slash."""
    tops = {member.name.partition("/")[0] for member in members}
    return f"{next(iter(tops))}/" if len(tops) == 1 and all("/" in member.name for member in members) else ""
