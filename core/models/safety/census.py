"""Counts what a checkpoint holds, and finds its tensors, without recursion: how deep it is was the file's choice."""

from collections.abc import Iterator
from typing import Any

from core.models.safety.inert import ArrayRef, Opaque, TensorRef
from core.models.safety.limits import Limits

_MAX_PATH = 300


class NestingError(ValueError):
    """Too deep, too much, or without end; the text says which."""


def find_tensors(root: Any, limits: Limits) -> dict[str, TensorRef | ArrayRef]:
    """Tensors and arrays by the dotted path at which they first appear.

    Raises:
        NestingError: values that contain themselves, or more than the limits allow. What is shared counts wherever
            it appears, because whoever writes it out writes it as often.
    """
    tensors: dict[str, TensorRef | ArrayRef] = {}
    # Of every container that is done: (height, number of values in it); None while it is being walked.
    done: dict[int, tuple[int, int] | None] = {}
    trail: list[tuple[Any, str, Iterator[tuple[Any, Any]]]] = []
    totals: list[list[int]] = [[0, 0]]
    found: set[int] = set()

    def visit(value: Any, path: str) -> None:
        """Adds a leaf or a known container to the innermost open one, or opens a new one."""
        if isinstance(value, TensorRef | ArrayRef) and id(value) not in found:
            found.add(id(value))
            if len(found) > limits.tensors:
                raise NestingError(f"more than {limits.tensors} tensors")
            tensors[path if path not in tensors else f"{path}#{len(found)}"] = value
        children = _children(value)
        if children is None:
            _add(totals[-1], 0, 1, limits)
            return
        if id(value) in done:
            known = done[id(value)]
            if known is None:
                raise NestingError("a value that contains itself")
            _add(totals[-1], *known, limits)
            return
        if len(trail) >= limits.depth:
            raise NestingError(f"values nested more than {limits.depth} deep")
        done[id(value)] = None
        trail.append((value, path, children))
        totals.append([0, 1])

    visit(root, "")
    while trail:
        value, path, children = trail[-1]
        for name, child in children:
            before = len(trail)
            visit(child, f"{path}.{name}"[-_MAX_PATH:] if path else str(name)[:_MAX_PATH])
            if len(trail) > before:
                break
        else:
            trail.pop()
            height, count = totals.pop()
            done[id(value)] = (height + 1, count)
            _add(totals[-1], height + 1, count, limits)
    return tensors


def _add(total: list[int], height: int, count: int, limits: Limits) -> None:
    total[0] = max(total[0], height)
    total[1] += count
    if total[1] > limits.nodes:
        raise NestingError(f"more than {limits.nodes} values")
    if total[0] > limits.depth:
        raise NestingError(f"values nested more than {limits.depth} deep")


def _children(value: Any) -> Iterator[tuple[Any, Any]] | None:
    if isinstance(value, dict):
        return _entries(value)
    if isinstance(value, list | tuple | set | frozenset):
        return enumerate(value) if value else None
    if isinstance(value, Opaque):
        return enumerate(value.content)
    return None


def _entries(value: dict[Any, Any]) -> Iterator[tuple[Any, Any]]:
    for name, item in value.items():
        if isinstance(name, tuple):
            yield "key", name
        yield (name if isinstance(name, str | int) else type(name).__name__), item
