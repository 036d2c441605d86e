"""Recipes, attacks and triggers as values for JSON, so that old provenance and old digests stay as they are."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any

#: Metadata of a field that came after the first recipes were published: left out of JSON while it has its default.
LATER: Mapping[str, Any] = MappingProxyType({"later": True})


def describe(value: Any) -> Any:
    """Dataclasses to dictionaries and tuples to lists, recursively; see `LATER`."""
    if is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: describe(getattr(value, item.name))
            for item in fields(value)
            if not (item.metadata.get("later") and getattr(value, item.name) == item.default)
        }
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    return value
