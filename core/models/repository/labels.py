"""Class names out of the configurations of repositories."""

import unicodedata
from collections.abc import Mapping
from typing import Any

from core.errors import InvalidInputError
from core.models.architectures.inference import MAX_CLASSES

_MAX_CHARS = 200


def transformers_labels(config: Mapping[str, Any], where: str) -> tuple[int, tuple[str, ...]]:
    """(K, names by class index) from `id2label` or `num_labels`; names may be empty.

    Raises:
        InvalidInputError: `invalid_config`: the indices are not 0 to K - 1, or both fields contradict each other.
    """
    table, count = config.get("id2label"), config.get("num_labels")
    if table is None:
        if count is None:
            return 2, ()  # what transformers takes then
        return _count(count, where), ()
    names = _by_index(table, where, "id2label")
    if count is not None and count != len(names):
        raise _invalid(where, f"id2label names {len(names)} classes and num_labels is {str(count)[:20]}")
    return len(names), names


def timm_labels(config: Mapping[str, Any], where: str) -> tuple[int | None, tuple[str, ...]]:
    """(K or None, names by class index) from `num_classes`, `label_names` and `label_descriptions`.

    Raises:
        InvalidInputError: `invalid_config`: more or fewer names than classes.
    """
    pretrained = config.get("pretrained_cfg")
    inner = pretrained if isinstance(pretrained, Mapping) else {}

    def said(key: str) -> Any:
        return config[key] if config.get(key) is not None else inner.get(key)

    count, names, texts = said("num_classes"), said("label_names"), said("label_descriptions")
    if names is None:
        names = config.get("labels")
    classes = None if count is None else _count(count, where)
    if names is None:
        return classes, ()
    if isinstance(names, list):
        names = {str(index): name for index, name in enumerate(names)}
    found = _by_index(names, where, "label_names")
    if classes is not None and classes != len(found):
        raise _invalid(where, f"label_names names {len(found)} classes and num_classes is {classes}")
    if isinstance(texts, Mapping):
        found = tuple(clean_label(texts[name]) if isinstance(texts.get(name), str) else name for name in found)
    return len(found), found


def clean_label(value: Any) -> str:
    """A class name fit for a report: one line without control characters."""
    text = unicodedata.normalize("NFC", str(value))
    shown = "".join(" " if unicodedata.category(char)[0] == "C" else char for char in text)
    return " ".join(shown.split())[:_MAX_CHARS]


def _by_index(table: Any, where: str, field: str) -> tuple[str, ...]:
    if not isinstance(table, Mapping) or not 1 <= len(table) <= MAX_CLASSES:
        raise _invalid(where, f"{field} is no object with 1 to {MAX_CLASSES} entries")
    by_index: dict[int, str] = {}
    for key, name in table.items():
        if not (key.isascii() and key.isdigit() and len(key) <= 6) or not isinstance(name, str | int):
            raise _invalid(where, f"{field} has the entry {key[:40]!r}: {str(name)[:40]!r}")
        by_index[int(key)] = clean_label(name)
    if sorted(by_index) != list(range(len(table))):
        raise _invalid(where, f"the indices in {field} are not 0 to {len(table) - 1}")
    return tuple(by_index[index] for index in range(len(table)))


def _count(value: Any, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= MAX_CLASSES:
        raise _invalid(where, f"the number of classes is {str(value)[:20]!r}")
    return value


def _invalid(where: str, what: str) -> InvalidInputError:
    return InvalidInputError("invalid_config", f"{where}: {what}.", "Correct the file.")
