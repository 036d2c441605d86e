"""A folder of reference images as one zip file: the same folder always gives the same bytes."""

import zipfile
from pathlib import Path

from core.errors import InvalidInputError

_EPOCH = (1980, 1, 1, 0, 0, 0)
_MODE = 0o100644


def zip_folder(folder: Path, target: Path) -> None:
    """Write the regular files under `folder` to `target`, sorted, stored, without times and owners.

    Hidden files and links are left out.

    Raises:
        InvalidInputError: there is nothing in it.
    """
    files = sorted(
        (path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink() and not _hidden(path.relative_to(folder))
    )
    if not files:
        raise InvalidInputError("reference_empty", f"There are no files in the folder {folder.name}.")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            info = zipfile.ZipInfo(name, _EPOCH)
            info.external_attr = _MODE << 16
            info.create_system = 3
            archive.writestr(info, path.read_bytes())


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)
