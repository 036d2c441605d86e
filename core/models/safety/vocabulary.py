"""What the builders of inert values share: errors, the entries of the list, and what may be a key."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.models.safety.inert import Opaque

_MAX_KEY_ITEMS = 8


class ArgumentsError(ValueError):
    """A known global with other arguments than its own pickler writes; the text says which."""


class KindError(ValueError):
    """A tensor or array of a kind that cannot be read; the text names the kind."""


@dataclass(frozen=True, slots=True)
class Known:
    """A global on the list.

    Attributes:
        name: qualified, as in the file.
        build: makes the inert value from the arguments of a call; None if it is only ever named.
    """

    name: str
    build: Callable[[tuple[Any, ...]], Any] | None = None


def require(condition: bool, what: str) -> None:
    if not condition:
        raise ArgumentsError(what)


def is_int(value: Any, low: int = 0, high: int = 1 << 62) -> bool:
    return type(value) is int and low <= value <= high


def is_int_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and all(is_int(item) for item in value)


def key(value: Any, depth: int = 2) -> Any:
    """`value` if it may be a key of a dictionary or member of a set.

    Integers are bounded because others can be chosen to collide, and tuples because hashing shared ones within each
    other takes for ever.

    Args:
        depth: of tuples within each other that is left.

    Raises:
        ArgumentsError: not such a value.
    """
    if type(value) in (str, bool, bytes, Opaque, Known) or value is None or is_int(value, -(1 << 59), 1 << 59):
        return value
    if type(value) is float and abs(value) < 1e18:
        return value
    if isinstance(value, tuple) and len(value) <= _MAX_KEY_ITEMS and depth > 0:
        return tuple(key(item, depth - 1) for item in value)
    raise ArgumentsError(f"a {type(value).__name__} as a key")
