"""Which files of a data set's repository become a reference set: a folder of images, or one archive."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.hub.errors import HubContentError
from core.hub.source import HubFile

#: More images than this are not fetched: they are thinned out evenly over the sorted paths, so that classes stay.
MAX_IMAGES = 1_000
_IMAGES = (".png", ".jpg", ".jpeg", ".webp")
_TABLES = ("labels.csv", "captions.csv", "captions.tsv", "captions.jsonl")
_BESIDE = (".txt", ".json", ".cls")
_ARCHIVES = (".zip", ".tar", ".parquet")
#: Fewer images than this beside archives are the pictures of a README.
_FEW = 10
#: What tells the parts of one thing apart: "train-00003-of-00010.parquet", "0003.parquet", "pairs_12.tar".
_PART = re.compile(r"(?:[-_.]?[0-9]{1,6}(?:-of-[0-9]{1,6})?)?$")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ImageChoice:
    """What to fetch.

    Attributes:
        files: (name in the reference set, file); one archive (zip, tar, Parquet), or images with tables and texts.
        is_archive: whether it is the one archive.
        available: how many images, or archives, there were to choose from.
    """

    files: list[tuple[str, HubFile]]
    is_archive: bool
    available: int


def choose_images(files: Sequence[HubFile], split: str | None) -> ImageChoice:
    """Images below a folder called `split` (or all), else the archive that is called so; of several parts the first.

    Raises:
        HubContentError: `hub_no_images`, `hub_archive_ambiguous`.
    """
    inside = [(name, file) for file in files if (name := _inside(file.path, split)) is not None]
    images = sorted(item for item in inside if item[0].lower().endswith(_IMAGES))
    archives = sorted(
        (file for file in files if file.path.lower().endswith(_ARCHIVES) and _is_called(file.path, split)),
        key=lambda file: file.path,
    )
    if images and (len(images) >= _FEW or not archives):
        step = -(-len(images) // MAX_IMAGES)
        chosen = images[::step]
        stems = {_stem(name) for name, _ in chosen}
        texts = [item for item in inside if item[0].lower().endswith(_BESIDE) and _stem(item[0]) in stems]
        tables = [item for item in inside if item[0] in _TABLES]
        return ImageChoice([*chosen, *texts, *tables], is_archive=False, available=len(images))
    if archives and len({_without_part(file.path) for file in archives}) == 1:
        return ImageChoice([(archives[0].path, archives[0])], is_archive=True, available=len(archives))
    if archives:
        names = ", ".join(file.path for file in archives[:_SHOWN])
        raise HubContentError(
            "hub_archive_ambiguous",
            f"The data set has {len(archives)} archives that could be meant: {names}.",
            "Name one as `split`, by its folder or a word of its name.",
        )
    where = f" in {split!r}" if split else ""
    unread = sum(file.path.lower().endswith((".arrow", ".gz", ".7z", ".rar")) for file in files)
    other = f" It has {unread} Arrow or packed files, which are not read." if unread else ""
    raise HubContentError(
        "hub_no_images",
        f"The data set has neither PNG, JPEG or WEBP files nor a zip, tar or Parquet file{where}.{other}",
        "The Hub keeps many data sets as Parquet under the revision refs/convert/parquet; or upload images as a zip.",
    )


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _without_part(path: str) -> str:
    """What the parts of one split have in common."""
    pure = PurePosixPath(path)
    return f"{pure.parent}/{_PART.sub('', pure.stem)}{pure.suffix.lower()}"


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
