"""Which files of a data set's repository become a reference set: a folder of images, or one zip archive."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.hub.errors import HubContentError
from core.hub.source import HubFile

#: More images than this are not fetched: they are thinned out evenly over the sorted paths, so that classes stay.
MAX_IMAGES = 1_000
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_TABLE = "labels.csv"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """What to fetch.

    Attributes:
        files: (name in the reference set, file); one zip archive, or images and perhaps a labels.csv.
        is_archive: whether it is the one archive.
        available: how many images, or archives, there were to choose from.
    """

    files: list[tuple[str, HubFile]]
    is_archive: bool
    available: int


def choose_images(files: Sequence[HubFile], split: str | None) -> ImageChoice:
    """Images below a folder called `split` (or all), else the one zip archive that is called so.

    Raises:
        HubContentError: `hub_no_images`, `hub_archive_ambiguous`.
    """
    inside = [(name, file) for file in files if (name := _inside(file.path, split)) is not None]
    images = sorted(item for item in inside if item[0].lower().endswith(_IMAGES))
    if images:
        step = -(-len(images) // MAX_IMAGES)
        tables = [item for item in inside if item[0] == _TABLE]
        return ImageChoice([*images[::step], *tables], is_archive=False, available=len(images))
    archives = [file for file in files if file.path.lower().endswith(".zip") and _is_called(file.path, split)]
    if len(archives) == 1:
        return ImageChoice([(archives[0].path, archives[0])], is_archive=True, available=1)
    if archives:
        names = ", ".join(file.path for file in archives[:_SHOWN])
        raise HubContentError(
            "hub_archive_ambiguous",
            f"The data set has {len(archives)} zip archives that could be meant: {names}.",
            "Name one as `split`, by a word of its name.",
        )
    where = f" in {split!r}" if split else ""
    unread = sum(file.path.lower().endswith((".parquet", ".arrow", ".tar")) for file in files)
    other = f" It has {unread} Parquet, Arrow or tar files, which are not read." if unread else ""
    raise HubContentError(
        "hub_no_images",
        f"The data set has neither PNG, JPEG or WEBP files nor a zip archive{where}.{other}",
        "Save some hundred images as class folders, zip them, and upload the archive.",
    )


def _inside(path: str, split: str | None) -> str | None:
    """The path below the first folder called `split`; None if there is none."""
    if split is None:
        return path
    parts = path.split("/")
    return "/".join(parts[parts.index(split) + 1 :]) if split in parts[:-1] else None


def _is_called(path: str, split: str | None) -> bool:
    if split is None:
        return True
    pure = PurePosixPath(path)
    return split in pure.parts[:-1] or pure.stem == split or split in re.split(r"[-_.]", pure.stem)
