"""Checks for the fields of a foreign configuration: each takes a value and returns it, or says what it should be."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInputError, UnsupportedError

#: Value -> the value to use. Raises ValueError (wrong type: what is expected) or LookupError (outside the limits).
Check = Callable[[Any], Any]
#: Deepest, widest: what no image classifier exceeds, so that a configuration cannot ask for more than a machine has.
MAX_WIDTH, MAX_DEPTH, MAX_SIDE, MAX_ITEMS = 32_768, 512, 2_048, 16


def whole(low: int, high: int) -> Check:
    """An integer in [low, high]; 4.0 will do."""

    def check(value: Any) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError("an integer")
        if not low <= value <= high:
            raise LookupError(f"{low} to {high}")
        return value

    return check


def number(low: float, high: float) -> Check:
    """A finite number in [low, high]."""

    def check(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError("a number")
        if not low <= value <= high:
            raise LookupError(f"{low} to {high}")
        return float(value)

    return check


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def choice(*values: str) -> Check:
    """One of these words."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise ValueError("a word")
        if value not in values:
            raise LookupError(", ".join(values))
        return value

    return check


def several(item: Check, most: int = MAX_ITEMS) -> Check:
    """A list of 1 to `most`."""

    def check(value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise ValueError("a list")
        if not 1 <= len(value) <= most:
            raise LookupError(f"1 to {most} entries")
        return [item(entry) for entry in value]

    return check


def one_or_several(item: Check, most: int = MAX_ITEMS) -> Check:
    """A value, or a list of values."""

    def check(value: Any) -> Any:
        return several(item, most)(value) if isinstance(value, list | tuple) else item(value)

    return check


WIDTH, DEPTH, HEADS = whole(1, MAX_WIDTH), whole(1, MAX_DEPTH), whole(1, 512)
EPSILON, RATIO, SCALE = number(0.0, 1.0), number(0.01, 64.0), number(-100.0, 100.0)
WIDTHS, DEPTHS = several(WIDTH), several(DEPTH)
#: Pixels: one number, or height and width.
SIDE = one_or_several(whole(1, MAX_SIDE), 2)
KERNEL, STRIDE, PADDING = whole(1, 63), whole(1, 64), whole(0, 63)


@dataclass(frozen=True, slots=True)
class Checked:
    """The fields of a configuration that were taken, and the names of those that were not."""

    taken: dict[str, Any]
    ignored: tuple[str, ...]


def check_fields(config: Mapping[str, Any], table: Mapping[str, Check], known: frozenset[str], where: str) -> Checked:
    """Takes the fields in `table`; those in `known` have no effect on a forward pass; the others are ignored.

    A null counts as absent.

    Args:
        config: a parsed JSON object.
        table: field name -> check.
        known: fields that are dealt with elsewhere, or matter in training only.
        where: file name, for the error text.

    Raises:
        InvalidInputError: `invalid_config`: a field has the wrong type.
        UnsupportedError: `unsupported_config`: a value outside the limits.
    """
    taken: dict[str, Any] = {}
    for key, check in table.items():
        if config.get(key) is None:
            continue
        try:
            taken[key] = check(config[key])
        except ValueError as error:
            raise InvalidInputError(
                "invalid_config", f"{where}: {key} is {_shown(config[key])}, not {error}.", "Correct the file."
            ) from error
        except LookupError as error:
            raise UnsupportedError(
                "unsupported_config",
                f"{where}: {key} is {_shown(config[key])}; what can be built: {error.args[0]}.",
                "Only usual networks are rebuilt from a configuration.",
            ) from error
    return Checked(taken, tuple(sorted(key for key in config if key not in table and key not in known)))


def _shown(value: Any) -> str:
    return repr(value)[:60]
