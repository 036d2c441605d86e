"""Small plain values of a checkpoint (epoch, accuracy, image size, ...) as JSON and back, types kept."""

from typing import Any

_MAX_ITEMS = 1_000
_MAX_DEPTH = 6
_MAX_TEXT = 4_096


def encode(value: Any) -> Any:
    """JSON for `value`.

    Raises:
        ValueError: not a small plain value.
    """
    return _encode(value, _MAX_DEPTH)


def _encode(value: Any, depth: int) -> Any:
    if depth < 0:
        raise ValueError("too deep")
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int) and abs(value) < 1 << 63:
        return value
    if isinstance(value, str) and len(value) <= _MAX_TEXT:
        return value
    if isinstance(value, list | tuple) and len(value) <= _MAX_ITEMS:
        items = [_encode(item, depth - 1) for item in value]
        return items if isinstance(value, list) else {"tuple": items}
    if isinstance(value, dict) and len(value) <= _MAX_ITEMS:
        return {"dict": [[_encode(key, depth - 1), _encode(item, depth - 1)] for key, item in value.items()]}
    raise ValueError(f"{type(value).__name__} is not a small plain value")


def decode(value: Any) -> Any:
    """Inverse of `encode`."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if isinstance(value, dict):
        if "tuple" in value:
            return tuple(decode(item) for item in value["tuple"])
        return {decode(key): decode(item) for key, item in value["dict"]}
    return value
