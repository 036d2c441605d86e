"""Which image has which label: class folders, or labels.csv, or none; and how labels become the model's classes."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from core.data.contents import Contents, sort_members
from core.data.rejects import MemberUnreadableError, Reject
from core.errors import InvalidInputError

_MAX_TABLE_BYTES = 16 << 20
_MAX_LABEL = 200
_INDEX = re.compile(r"([0-9]{1,6})(?:[-_ .]+(.*))?")
_DIGITS = re.compile(r"[0-9]{1,9}")
_CODE = "reference_labels_do_not_fit"
_TABLE_HINT = "Two columns: filename,label."
_HINT = (
    "Name class folders (or the label column) by class index, '0' to 'K-1', '3-dress' style works too, or by the "
    "model's own class names; other names must be as many as the model has classes, in alphabetical order of the "
    "indices."
)
_MIN_NAMES = 2
_BY_INDEX, _BY_NAME, _BY_ORDER, _UNLABELLED = "index", "name", "order", "unlabelled"


@dataclass(frozen=True, slots=True)
class FoundLabels:
    """Images in a fixed order with their labels as they are written.

    Attributes:
        images: member names.
        texts: labels in the same order; None if the set is unlabelled.
        rows: of labels.csv, in the same order; empty if labels are folders.
        rejected: what is not used, and why.
    """

    images: list[str]
    texts: list[str] | None
    rows: list[int] = field(default_factory=list)
    rejected: list[Reject] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Labelling:
    """Images in a fixed order with their classes.

    Attributes:
        images: member names.
        labels: class indices in the same order; None if the set is unlabelled.
        class_names: by class index; empty if unknown.
        matched_by: "index", "name" (the model's own), "order" (alphabetical) or "unlabelled".
        mapping: the same in words.
        rejected: what is not used, and why.
    """

    images: list[str]
    labels: list[int] | None
    class_names: tuple[str, ...] = ()
    matched_by: str = _UNLABELLED
    mapping: str = "unlabelled"
    rejected: list[Reject] = field(default_factory=list)


def find_labels(names: tuple[str, ...], read: Callable[[str], bytes]) -> FoundLabels:
    """The images among `names`, each with the one label it has.

    Args:
        names: all members, sorted.
        read: content of a member.

    Raises:
        InvalidInputError: `invalid_reference_labels`: labels.csv cannot be read, or gives an image two labels.
    """
    contents = sort_members(names)
    root, images = contents.root, contents.images
    rejected = [Reject(name, "image_extension", "not PNG, JPEG or WEBP") for name in contents.others]
    if contents.label_table is not None:
        return _from_table(root, images, _content(read, contents.label_table), rejected)
    if contents.classes:
        return _from_beside(contents, read, rejected)
    if contents.captioned:  # folders of such a set are shards
        return FoundLabels(images, None, rejected=rejected)
    folders = {name: name[len(root) :].split("/")[0] for name in images if "/" in name[len(root) :]}
    if not folders:
        return FoundLabels(images, None, rejected=rejected)
    rejected += [
        Reject(name, "label_missing", "outside of the class folders") for name in images if name not in folders
    ]
    used = [name for name in images if name in folders]
    return FoundLabels(used, [folders[name] for name in used], rejected=rejected)


def own_classes(found: FoundLabels) -> Labelling:
    """Labels as classes of their own, for a model that has none: their names are what its targets are called.

    Bare numbers and a single class are no names to tell images apart by: the set counts as unlabelled then.
    """
    values = sorted(set(found.texts or ()))
    matches = {value: _INDEX.fullmatch(value) for value in values}
    if values and all(matches.values()):  # "3-dress"
        values.sort(key=lambda value: (class_index(value) or 0, value))
        names = {value: _words((matches[value] or [""] * 3)[2] or "") for value in values}
    else:
        names = {value: _words(value) for value in values}
    distinct = list(dict.fromkeys(names.values()))
    if len(distinct) < _MIN_NAMES or not all(distinct) or found.texts is None:
        mapping = "labels are no names" if values else _UNLABELLED
        return Labelling(found.images, None, mapping=mapping, rejected=found.rejected)
    labels = [distinct.index(names[text]) for text in found.texts]
    mapping = "labels are the names of the targets"
    return Labelling(found.images, labels, tuple(distinct), _BY_NAME, mapping, found.rejected)


def match_labels(
    found: FoundLabels, num_classes: int, class_names: Sequence[str] = (), *, by_order: bool = True
) -> Labelling:
    """Labels as classes of a model.

    Args:
        num_classes: K; classes are in [0, K).
        class_names: the model's own, by class index; of no use unless there are K.
        by_order: names that are not the model's count as its classes in alphabetical order, if they are as many.

    Raises:
        InvalidInputError: `reference_labels_do_not_fit`, naming labels or folders.
    """
    class_names = tuple(class_names) if len(class_names) == num_classes else ()
    if found.texts is None:
        return Labelling(found.images, None, class_names, rejected=found.rejected)
    outside = [
        f"row {row} ({text[:40]})"
        for row, text in zip(found.rows, found.texts, strict=False)
        if _DIGITS.fullmatch(text) and int(text) >= num_classes
    ]
    if outside:
        raise _do_not_fit(f"the model has {num_classes} classes, but labels.csv has {_some(outside)}")
    what = "label" if found.rows else "folder"
    index, names, matched_by, mapping = _indices(sorted(set(found.texts)), num_classes, class_names, what, by_order)
    labels = [index[value] for value in found.texts]
    return Labelling(found.images, labels, names, matched_by, mapping, found.rejected)


def class_index(text: str) -> int | None:
    """The class index a label begins with ("3", "03", "3-dress"); None for a name."""
    match = _INDEX.fullmatch(text)
    return int(match[1]) if match else None


def _content(read: Callable[[str], bytes], name: str) -> bytes:
    try:
        content = read(name)
    except MemberUnreadableError as error:
        raise _invalid_table(f"labels.csv cannot be read: {error}.") from error
    if len(content) > _MAX_TABLE_BYTES:
        raise _invalid_table(f"labels.csv is longer than {_MAX_TABLE_BYTES >> 20} MiB.")
    return content


def _from_beside(contents: Contents, read: Callable[[str], bytes], rejected: list[Reject]) -> FoundLabels:
    images: list[str] = []
    texts: list[str] = []
    for image in contents.images:
        beside = contents.classes.get(image)
        if beside is None:
            rejected.append(Reject(image, "label_missing", "no .cls of its name"))
            continue
        try:
            text = read(beside).decode().strip()
        except (UnicodeDecodeError, MemberUnreadableError) as error:
            rejected.append(Reject(beside, "label_unreadable", f"the class cannot be read: {error}"))
            continue
        if not text or len(text) > _MAX_LABEL or not text.isprintable():
            rejected.append(Reject(beside, "label_unreadable", "a class index or name on one line is expected"))
            continue
        images.append(image)
        texts.append(text)
    return FoundLabels(images, texts, rejected=rejected)


def _from_table(root: str, images: list[str], content: bytes, rejected: list[Reject]) -> FoundLabels:
    rows = _rows(content)
    by_name: dict[str, tuple[int, str]] = {}
    for number, filename, label in rows:
        if by_name.setdefault(filename, (number, label))[1] != label:
            raise _invalid_table(f"labels.csv, row {number}: {filename[:80]!r} has two labels.")
    keys = {name: _key(name[len(root) :], by_name) for name in images}
    taken: dict[str, int] = {}
    for key in keys.values():
        if key is not None:
            taken[key] = taken.get(key, 0) + 1
    used: list[tuple[str, int, str]] = []
    for name, key in keys.items():
        if key is None:
            rejected.append(Reject(name, "label_missing", "no row in labels.csv"))
        elif taken[key] > 1:
            rejected.append(Reject(name, "label_ambiguous", f"the row {key[:80]!r} fits {taken[key]} images"))
        else:
            used.append((name, *by_name[key]))
    rejected += [
        Reject(f"labels.csv, row {number}", "label_without_image", f"there is no image {filename[:80]!r}")
        for number, filename, _ in rows
        if filename not in taken
    ]
    return FoundLabels([item[0] for item in used], [item[2] for item in used], [item[1] for item in used], rejected)


def _key(path: str, by_name: Mapping[str, object]) -> str | None:
    """What the table calls an image: its path, or its bare name."""
    return next((key for key in (path, PurePosixPath(path).name) if key in by_name), None)


def _rows(content: bytes) -> list[tuple[int, str, str]]:
    """(line number, filename, label) of a table with or without a header."""
    try:
        text = content.decode("utf-8-sig")
        table = list(csv.reader(io.StringIO(text)))
    except (UnicodeDecodeError, csv.Error) as error:
        raise _invalid_table(f"labels.csv cannot be read: {error}.") from error
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
            raise _invalid_table(f"labels.csv, row {number}: expected filename,label.")
        rows.append((number, row[columns[0]].strip().removeprefix("./"), row[columns[1]].strip()))
    return rows


def _indices(
    values: list[str], num_classes: int, class_names: tuple[str, ...], what: str, by_order: bool
) -> tuple[dict[str, int], tuple[str, ...], str, str]:
    """(text -> class index, class names by index, matched by, how)."""
    known = _by_model_name(values, class_names)
    if known is not None:
        return known, class_names, _BY_NAME, f"{what}s are the model's class names"
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
        own = tuple(names.get(i, "") or str(i) for i in range(num_classes)) if any(names.values()) else ()
        differ = [
            f"{i}-{name}" for i, name in names.items() if name and class_names and not _same(name, class_names[i])
        ]
        mapping = f"{what}s begin with the class index"
        if differ:
            mapping += f", but the model calls these classes otherwise: {_some(differ)}"
        return index, class_names or own, _BY_INDEX, mapping
    if any(matches.values()):
        odd = [value for value, match in matches.items() if not match]
        raise _do_not_fit(f"some {what}s are class indices, but {_some(odd)} is none")
    if not by_order:
        raise _do_not_fit(f"none of the {what}s {_some(values)} is a name of the vocabulary")
    if len(values) != num_classes:
        raise _do_not_fit(f"the model has {num_classes} classes, but there are {len(values)} {what}s: {_some(values)}")
    mapping = f"{what} names in alphabetical order, as many as the model has classes"
    return {value: i for i, value in enumerate(values)}, class_names or tuple(values), _BY_ORDER, mapping


def _by_model_name(values: list[str], class_names: tuple[str, ...]) -> dict[str, int] | None:
    """text -> class index if the labels are the model's class names; None if none of them is.

    Capitals, spaces, hyphens and underscores make no difference; of "tench, Tinca tinca" each part is a name.
    """
    if all(_DIGITS.fullmatch(value) for value in values):
        return None  # numbers are class indices, also where a class is called "7"
    by_name: dict[str, set[int]] = {}
    for i, name in enumerate(class_names):
        for part in {name, *name.split(",")}:
            by_name.setdefault(_folded(part), set()).add(i)
    found = {value: by_name.get(_folded(value), set()) for value in values}
    if not any(found.values()):
        return None
    unknown = [value for value, classes in found.items() if not classes]
    if unknown:
        raise _do_not_fit(f"the model has no class {_some(unknown)}")
    doubtful = [value for value, classes in found.items() if len(classes) > 1]
    if doubtful:
        raise _do_not_fit(f"the model has several classes called {_some(doubtful)}")
    return {value: next(iter(classes)) for value, classes in found.items()}


def _same(name: str, class_name: str) -> bool:
    return _folded(name) in {_folded(part) for part in (class_name, *class_name.split(","))}


def _words(name: str) -> str:
    return " ".join(name.replace("_", " ").split())


def _folded(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def _some(values: list[str]) -> str:
    shown = ", ".join(value[:40] for value in values[:8])
    return shown + (f", ... ({len(values)} in all)" if len(values) > 8 else "")


def _invalid_table(detail: str) -> InvalidInputError:
    return InvalidInputError("invalid_reference_labels", detail, _TABLE_HINT)


def _do_not_fit(detail: str) -> InvalidInputError:
    return InvalidInputError(_CODE, f"The labels of the reference set do not fit: {detail}.", _HINT)
