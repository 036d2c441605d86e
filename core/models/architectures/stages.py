"""Reading depth and width from keys, and writing them into names."""

from core.models.architectures.base import Shapes


def dotted(numbers: tuple[int, ...]) -> str:
    """(2, 2, 2) -> "2.2.2"."""
    return ".".join(map(str, numbers))


def parse_dotted(text: str) -> tuple[int, ...]:
    """Inverse of `dotted`; empty if `text` is not such a list of positive numbers."""
    parts = text.split(".")
    if len(parts) > 8 or not all(part.isdecimal() and 0 < len(part) <= 4 and int(part) > 0 for part in parts):
        return ()
    return tuple(map(int, parts))


def is_buildable(blocks: tuple[int, ...], widths: tuple[int, ...]) -> bool:
    """Whether such a network is of a sane size: a name is text from outside."""
    return 0 < len(blocks) == len(widths) and sum(blocks) <= 1_000 and max(widths) <= 4_096


def block_counts(shapes: Shapes, pattern: str, first: int = 1) -> tuple[int, ...]:
    """Blocks per stage, counted from keys that begin with `pattern.format(stage, block)`."""
    counts: list[int] = []
    while True:
        stage, block = len(counts) + first, 0
        while any(key.startswith(pattern.format(stage, block)) for key in shapes):
            block += 1
        if block == 0:
            return tuple(counts)
        counts.append(block)
