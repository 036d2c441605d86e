"""Work in a process of its own: its peak memory is its own, and when it dies nothing else does."""

import contextlib
import ctypes
import multiprocessing
import resource
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from core.errors import EngineError

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Ask the system to end this process when the one that started it ends, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def peak_rss_bytes() -> int:
    """The largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def run_isolated(function: Callable[..., T], *arguments: Any) -> T:
    """`function(*arguments)` in a fork of this process, which must have one thread only.

    Raises:
        EngineError: the child failed or died, with what it said.
    """
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sending, function, arguments))
    child.start()
    sending.close()
    answer: tuple[bool, Any] | None = None
    with contextlib.suppress(EOFError):
        answer = receiving.recv()
    child.join()
    if answer is None:
        raise EngineError("bench_child_died", f"The process of a measurement ended with exit code {child.exitcode}.")
    succeeded, value = answer
    if not succeeded:
        raise EngineError("bench_child_failed", value)
    return value  # type: ignore[no-any-return]


def _child(sending: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    die_with_parent()
    try:
        answer = (True, function(*arguments))
    except Exception as error:  # whatever it is, the parent must hear of it
        answer = (False, f"{type(error).__name__}: {error}")
    sending.send(answer)
    sending.close()
