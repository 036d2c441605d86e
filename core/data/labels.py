"""Which image has which label: class folders, or labels.csv, or none."""

import csv
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from core.data.members import MemberUnreadableError
from core.errors import InvalidInputError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
_TABLE = "labels.csv"
_INDEX = re.compile(r"(\d{1,6})(?:[-_ .]+(.*))?")
_CODE = "reference_labels_do_not_fit"
_HINT = (
    "Name class folders (or the label column) by class index, '0' to 'K-1', '3-dress' style works too; "
    "names without numbers must be as many as the model has classes, in alphabetical order of the indices."
)


@dataclass(frozen=True, slots=True)
class Labelling:
    """Images in a fixed order with their labels.

    Attributes:
        images: member names.
        labels: class indices in the same order; None if the set is unlabelled.
        class_names: by class index; empty if unknown.
        mapping: how labels became indices, in words.
        rejected: per-file reasons for what is not used.
    """

    images: list[str]
    labels: list[int] | None
    class_names: tuple[str, ...] = ()
    mapping: str = "unlabelled"
    rejected: list[str] = field(default_factory=list)


def read_labels(names: tuple[str, ...], read: Callable[[str], bytes], num_classes: int) -> Labelling:
    """Finds the labels of the images among `names`.

    Args:
        names: all members, sorted.
        read: content of a member.
        num_classes: K; labels are in [0, K).

    Raises:
        InvalidInputError: `reference_labels_do_not_fit`, naming rows or folders; `invalid_reference_labels`.
    """
    root = _common_folder(names)
    rejected = [f"{name}: not PNG, JPEG or WEBP" for name in names if not _is_image(name) and name != root + _TABLE]
    images = [name for name in names if _is_image(name)]
    if root + _TABLE in names:
        return _from_table(root, images, _content(read, root + _TABLE), num_classes, rejected)
    folders = {name: name[len(root) :].split("/")[0] for name in images if "/" in name[len(root) :]}
    if not folders:
        return Labelling(images, None, rejected=rejected)
    rejected += [f"{name}: outside of the class folders" for name in images if name not in folders]
    index, class_names, mapping = _indices(sorted(set(folders.values())), num_classes, "folder")
    used = [name for name in images if name in folders]
    return Labelling(used, [index[folders[name]] for name in used], class_names, mapping, rejected)


def _content(read: Callable[[str], bytes], name: str) -> bytes:
    try:
        return read(name)
    except MemberUnreadableError as error:
        raise InvalidInputError(
            "invalid_reference_labels", f"labels.csv cannot be read: {error}.", "Two columns: filename,label."
        ) from error


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _common_folder(names: tuple[str, ...]) -> str:
    """The one folder around everything, with its slash, unless it is itself a class; "" if there is none."""
    root = ""
    while names:
        tops = {name[len(root) :].partition("/")[0] for name in names}
        if len(tops) != 1 or any("/" not in name[len(root) :] for name in names):
            return root
        top = next(iter(tops))
        inner = [name[len(root) + len(top) + 1 :] for name in names]
        if _INDEX.fullmatch(top) and not any("/" in name or name == _TABLE for name in inner):
            return root
        root += top + "/"
    return root


def _from_table(root: str, images: list[str], content: bytes, num_classes: int, rejected: list[str]) -> Labelling:
    rows = _rows(content)
    by_name: dict[str, str] = {}
    for number, filename, label in rows:
        if by_name.setdefault(filename, label) != label:
            raise InvalidInputError(
                "invalid_reference_labels", f"labels.csv, row {number}: {filename[:80]!r} has two labels.", _HINT
            )
    labelled: dict[str, str] = {}
    used_rows: set[str] = set()
    for name in images:
        path = name[len(root) :]
        key = next((key for key in (path, PurePosixPath(path).name) if key in by_name), None)
        if key is None:
            rejected.append(f"{name}: no row in labels.csv")
        else:
            labelled[name] = by_name[key]
            used_rows.add(key)
    rejected += [
        f"labels.csv, row {number}: there is no image {filename[:80]!r}"
        for number, filename, _ in rows
        if filename not in used_rows
    ]
    bad = [
        f"row {number} ({label[:40]})"
        for number, _, label in rows
        if label.isdecimal() and len(label) < 10 and int(label) >= num_classes
    ]
    if bad:
        raise _do_not_fit(f"the model has {num_classes} classes, but labels.csv has {_some(bad)}")
    index, class_names, mapping = _indices(sorted(set(by_name.values())), num_classes, "label")
    used = list(labelled)
    return Labelling(used, [index[labelled[name]] for name in used], class_names, mapping, rejected)


def _rows(content: bytes) -> list[tuple[int, str, str]]:
    """(line number, filename, label) of a table with or without a header."""
    try:
        text = content.decode("utf-8-sig")
        table = list(csv.reader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInputError(
            "invalid_reference_labels", f"labels.csv cannot be read: {error}.", "Two columns: filename,label."
        ) from error
    rows: list[tuple[int, str, str]] = []
    columns = (0, 1)
    for number, row in enumerate(table, start=1):
        if not any(cell.strip() for cell in row):
            continue
        header = [cell.strip().lower() for cell in row]
        if number == 1 and "label" in header and len(header) >= 2:
            name_column = next((header.index(key) for key in ("filename", "file", "path", "image") if key in header), 0)
            columns = (name_column, header.index("label"))
            continue
        if len(row) <= max(columns) or not row[columns[0]].strip() or not row[columns[1]].strip():
            raise InvalidInputError(
                "invalid_reference_labels",
                f"labels.csv, row {number}: expected filename,label.",
                "Two columns: filename,label.",
            )
        rows.append((number, row[columns[0]].strip().removeprefix("./"), row[columns[1]].strip()))
    return rows


def _indices(values: list[str], num_classes: int, what: str) -> tuple[dict[str, int], tuple[str, ...], str]:
    """(text -> class index, class names by index, how)."""
    matches = {value: _INDEX.fullmatch(value) for value in values}
    if all(matches.values()):
        index = {value: int(match[1]) for value, match in matches.items() if match}
        outside = [value for value, i in index.items() if i >= num_classes]
        if outside:
            raise _do_not_fit(
                f"the model has {num_classes} classes (0 to {num_classes - 1}), but there is {what} {_some(outside)}"
            )
        if len(set(index.values())) != len(index):
            raise _do_not_fit(f"two {what}s stand for one class index: {_some(values)}")
        names = {i: (matches[value] or [""] * 3)[2] or "" for value, i in index.items()}
        class_names = tuple(names.get(i, "") or str(i) for i in range(num_classes)) if any(names.values()) else ()
        return index, class_names, f"{what}s begin with the class index"
    if len(values) != num_classes:
        raise _do_not_fit(f"the model has {num_classes} classes, but there are {len(values)} {what}s: {_some(values)}")
    mapping = f"{what} names in alphabetical order, as many as the model has classes"
    return {value: i for i, value in enumerate(values)}, tuple(values), mapping


def _some(values: list[str]) -> str:
    shown = ", ".join(value[:40] for value in values[:8])
    return shown + (f", ... ({len(values)} in all)" if len(values) > 8 else "")


def _do_not_fit(detail: str) -> InvalidInputError:
    return InvalidInputError(_CODE, f"The labels of the reference set do not fit: {detail}.", _HINT)
