"""Reference images as one zip file: the same images always give the same bytes."""

import csv
import io
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
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
    zip_files(files, target)


def zip_files(files: Sequence[tuple[str, Path]], target: Path) -> None:
    """Write files to `target` in their order, under the given names."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in files:
            _add(archive, name, path)


@dataclass(frozen=True, slots=True)
class NamedImage:
    """An image for zip_images: where it is, what it is called, and its label and its caption if it has one."""

    location: Path
    filename: str
    label: str | None
    caption: str | None


def zip_images(images: Sequence[NamedImage], target: Path) -> None:
    """Write images to `target` in their order, numbered, with labels.csv and captions.csv if any of them has one."""
    names = [f"{number:05}-{image.filename}" for number, image in enumerate(images)]
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, image in zip(names, images, strict=True):
            _add(archive, name, image.location)
        for what in ("label", "caption"):
            said = [(name, getattr(image, what)) for name, image in zip(names, images, strict=True)]
            rows = [row for row in said if row[1] is not None]
            if rows:
                table = io.StringIO(newline="")
                csv.writer(table, lineterminator="\n").writerows([("filename", what), *rows])
                archive.writestr(_info(f"{what}s.csv"), table.getvalue())


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    info = _info(name)
    info.file_size = path.stat().st_size
    with path.open("rb") as source, archive.open(info, "w") as member:
        shutil.copyfileobj(source, member, 1 << 20)


def _info(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.external_attr = _MODE << 16
    info.create_system = 3
    return info


def _hidden(path: Path) -> bool:
    return any(part.startswith((".", "__MACOSX")) for part in path.parts)
