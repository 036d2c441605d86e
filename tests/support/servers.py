"""What the private servers of the tests have in common."""

import ctypes
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A TCP port on the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_program(name: str, *folders: Path) -> str | None:
    """The path of `name` in `folders`, else on PATH."""
    for folder in folders:
        if (folder / name).is_file():
            return str(folder / name)
    return shutil.which(name)


def missing(what: str) -> NoReturn:
    """Skip the test, saying what to install; in CI a missing server is a failure."""
    message = f"needs {what}: apt-get install redis-server postgresql"
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(message, pytrace=False)
    pytest.skip(message)


def die_with_parent() -> None:
    """In a child before exec: end when the test run is killed, whatever happens to its clean-up."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for(ready: Callable[[], bool], what: str, limit_s: float = 30) -> None:
    """Raises TimeoutError if `ready` does not become true."""
    end = time.monotonic() + limit_s
    while not ready():
        if time.monotonic() > end:
            raise TimeoutError(f"{what} did not come up within {limit_s} s")
        time.sleep(0.05)
