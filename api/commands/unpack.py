"""A purified repository out of its archive: what we packed ourselves, and still only what is plainly named."""

import shutil
import zipfile
from pathlib import Path

from core.errors import ConflictError, IntegrityError
from core.manifest import MAX_FILES, check_path


def check_empty(folder: Path) -> None:
    """Raises ConflictError (`folder_not_empty`) unless `folder` is an empty folder."""
    if not folder.is_dir() or any(folder.iterdir()):
        raise ConflictError("folder_not_empty", f"{folder} is not an empty folder.", "Name another one.")


def unpack_repository(archive: Path, folder: Path) -> None:
    """Write the files of `archive` to `folder`, which is made, or empty.

    Raises:
        ConflictError: `folder_not_empty`.
        IntegrityError: `invalid_archive`, it is not one of ours.
        InvalidInputError: `invalid_manifest`, a name in it is none that a model's file may have.
    """
    if folder.exists():
        check_empty(folder)
    try:
        with zipfile.ZipFile(archive) as packed:
            members = packed.infolist()
            if len(members) > MAX_FILES or any(item.compress_type != zipfile.ZIP_STORED for item in members):
                raise IntegrityError("invalid_archive", "The archive is not one of ours.")
            for item in members:
                target = folder / check_path(item.filename)
                target.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(item) as source, target.open("xb") as file:
                    shutil.copyfileobj(source, file)
    except (zipfile.BadZipFile, FileExistsError) as error:
        raise IntegrityError("invalid_archive", "The archive is damaged.") from error
