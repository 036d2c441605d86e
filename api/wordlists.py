"""Names of a CLIP's targets and the prompts around them: as lists, and as the text of a form field or a file."""

import json
from typing import Any

from core.data.captions import clean_caption
from core.data.rejects import CaptionRejectedError

MAX_NAMES, MAX_NAME = 1_000, 100
MAX_TEMPLATES, MAX_TEMPLATE = 32, 200
#: Where a template takes the name.
SLOT = "{}"


def check_names(names: list[str]) -> list[str]:
    """A vocabulary with its names on one line each; empty stays empty.

    Raises:
        ValueError: a single name, a name twice, an empty, long or unprintable one.
    """
    cleaned = [_clean(name, MAX_NAME) for name in names]
    if len(cleaned) == 1:
        raise ValueError("one name is no choice: give at least two")
    seen: set[str] = set()
    for name in cleaned:
        if name.casefold() in seen:
            raise ValueError(f"{name!r} occurs twice")
        seen.add(name.casefold())
    return cleaned


def check_templates(templates: list[str]) -> list[str]:
    """Prompts, each with one `{}`.

    Raises:
        ValueError: one without its `{}`, twice the same, an empty, long or unprintable one.
    """
    cleaned = [_clean(template, MAX_TEMPLATE) for template in templates]
    for template in cleaned:
        if template.count(SLOT) != 1:
            raise ValueError(f"{template!r} must hold {SLOT} once, where the name goes")
    if len(set(cleaned)) != len(cleaned):
        raise ValueError("a template occurs twice")
    return cleaned


def from_text(text: str, separators: str) -> list[Any]:
    """The items of a JSON array, or of a text: one a line, or between the first of `separators` that it holds.

    Raises:
        ValueError: it begins like a JSON array and is none.
    """
    if text.lstrip().startswith("["):
        try:
            items = json.loads(text)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        assert isinstance(items, list)  # what begins with a bracket
        return items
    separator = next((mark for mark in separators if mark in text), "\n")
    return [item.strip() for item in text.split(separator) if item.strip()]


def _clean(text: str, longest: int) -> str:
    try:
        cleaned = clean_caption(text)
    except CaptionRejectedError as error:
        raise ValueError(f"{text[:40]!r}: {error.reason.replace('caption', 'text')}") from None
    if len(cleaned) > longest:
        raise ValueError(f"{cleaned[:40]!r}...: longer than {longest} characters")
    return cleaned
