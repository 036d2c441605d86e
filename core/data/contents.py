"""What the members of a reference set are, by their names alone: images, tables, and files beside an image."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from core.data.image_rules import SUFFIXES

LABEL_TABLE = "labels.csv"
CAPTION_TABLES = ("captions.csv", "captions.tsv", "captions.jsonl")
#: Files beside an image that hold its text, the first that exists counts; and the one that holds its class.
_TEXT_SUFFIXES = (".txt", ".json")
_CLASS_SUFFIX = ".cls"
_INDEX_FOLDER = re.compile(r"[0-9]{1,6}(?:[-_ .]+.*)?")


@dataclass(frozen=True, slots=True)
class Contents:
    """The members of a set, sorted by what they are.

    Attributes:
        root: the one folder around everything, with its slash; "" if there is none.
        images: names, sorted.
        label_table: labels.csv; None without.
        caption_table: a table of captions; None without.
        texts: image -> the .txt or .json beside it (the layout of webdataset).
        classes: image -> the .cls beside it.
        others: what is none of these.
    """

    root: str
    images: list[str]
    label_table: str | None
    caption_table: str | None
    texts: dict[str, str]
    classes: dict[str, str]
    others: list[str]

    @property
    def offered(self) -> int:
        """How many files are images or stand where images should: what is used is compared with it."""
        return len(self.images) + len(self.others)

    @property
    def captioned(self) -> bool:
        """Whether something says captions; folders are no classes then."""
        return self.caption_table is not None or bool(self.texts)


def sort_members(names: tuple[str, ...]) -> Contents:
    """Sorts the members `names` (sorted, with forward slashes)."""
    root = _common_folder(names)
    known = set(names)
    images = [name for name in names if PurePosixPath(name).suffix.lower() in SUFFIXES]
    label_table = root + LABEL_TABLE if root + LABEL_TABLE in known else None
    caption_table = next((root + table for table in CAPTION_TABLES if root + table in known), None)
    texts: dict[str, str] = {}
    classes: dict[str, str] = {}
    used = {*images, label_table, caption_table}
    for image in images:
        stem = image.removesuffix(PurePosixPath(image).suffix)
        beside = [stem + suffix for suffix in _TEXT_SUFFIXES if stem + suffix in known]
        if beside:
            texts[image] = beside[0]
        if stem + _CLASS_SUFFIX in known:
            classes[image] = stem + _CLASS_SUFFIX
        used.update(beside, {stem + _CLASS_SUFFIX})
    others = [name for name in names if name not in used]
    return Contents(root, images, label_table, caption_table, texts, classes, others)


def _common_folder(names: tuple[str, ...]) -> str:
    """The one folder around everything, with its slash, unless it is itself a class; "" if there is none."""
    root = ""
    tables = (LABEL_TABLE, *CAPTION_TABLES)
    while names:
        tops = {name[len(root) :].partition("/")[0] for name in names}
        if len(tops) != 1 or any("/" not in name[len(root) :] for name in names):
            return root
        top = next(iter(tops))
        inner = [name[len(root) + len(top) + 1 :] for name in names]
        if _INDEX_FOLDER.fullmatch(top) and not any("/" in name or name in tables for name in inner):
            return root
        root += top + "/"
    return root
