"""Real Assay processes for tests: started with chosen settings, ended with the test."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.servers import die_with_parent

ROOT = Path(__file__).parents[2]


def wait_until(condition: Callable[[], object], timeout_s: float, what: str = "the condition") -> None:
    """Poll until `condition` is true. Raises AssertionError after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.02)


def stop(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM, timeout_s: float = 15.0) -> int:
    """End a process and return its exit status; SIGKILL if it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def assay_environment(**values: object) -> dict[str, str]:
    """The environment of an Assay process: ours without its ASSAY_ settings, and the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    return {**inherited, **{f"ASSAY_{name.upper()}": str(value) for name, value in values.items()}}


def start_assay(command: str, environment: dict[str, str], log: Path, *, fake: bool) -> "subprocess.Popen[bytes]":
    """Start a `worker`, a `sweep` or an `embedded` (`assay serve` without HTTP) process; see assay_process.py."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.assay_process", command, *(["--fake"] if fake else [])],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            preexec_fn=die_with_parent,
        )
