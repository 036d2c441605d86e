"""What hostile files try to call: it remembers that it was called."""

from typing import Any

FIRED: list[tuple[Any, ...]] = []


def fire(*arguments: Any) -> str:
    """Called by nothing but a file that got through."""
    FIRED.append(arguments)
    return "fired"
