"""One child process of a scan: start it, read its events, stop it when told.

Everything happens in the calling thread: a loop over the child's pipes that also asks, several times a second,
whether the child has to go.
"""

import contextlib
import json
import os
import selectors
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from core.domain import SandboxMode
from worker.events import EventLines, OnEvent, clean_text
from worker.protocol import ChildResult, ErrorInfo

POLL_S = 0.05
KILL_GRACE_S = 5.0
STDERR_TAIL_BYTES = 8 * 1024
MAX_OUTCOME_BYTES = 256 * 1024
OUTCOME = "outcome.json"
SPEC = "spec.json"
#: Empty: a library that looks for configuration or code where it was started finds none.
WORKING_DIR = "cwd"

_ROOT = Path(__file__).resolve().parents[1]


class Halt(StrEnum):
    """Why a child is stopped from outside."""

    CANCELED = "canceled"
    DEADLINE = "deadline"
    DRAINING = "draining"  # this worker is shutting down
    FENCED = "fenced"  # the scan belongs to another attempt by now
    TIME_LIMIT = "time_limit"  # this one child took too long


AskHalt = Callable[[], Halt | None]


@dataclass(frozen=True, slots=True)
class ChildCommands:
    """Command lines of the two children; the job folder is appended as the last argument."""

    parse: tuple[str, ...]
    compute: tuple[str, ...]


def real_children(sandbox: SandboxMode = SandboxMode.AUTO) -> ChildCommands:
    """The children that do the work: a fresh, isolated interpreter each, which finds only our code.

    Args:
        sandbox: what the parsing child does where a layer of its sandbox is missing.
    """
    return ChildCommands(_command("child_parse", repr(sandbox.value)), _command("child_compute", ""))


def reference_child(sandbox: SandboxMode = SandboxMode.AUTO) -> tuple[str, ...]:
    """The child that looks through a reference set. Arguments as of real_children."""
    return _command("child_reference", repr(sandbox.value))


def _command(module: str, argument: str) -> tuple[str, ...]:
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); from worker.{module} import main; main({argument})"
    return (sys.executable, "-I", "-c", code)


@dataclass(frozen=True, slots=True)
class ChildExit:
    """How a child ended.

    Attributes:
        returncode: exit status; minus the signal number if a signal killed it.
        result: what it wrote to outcome.json; None if there is no valid one.
        halt: why it was told to stop; None if it ended by itself.
        stderr_tail: the end of its diagnostics, for the log.
    """

    returncode: int
    result: ChildResult | None
    halt: Halt | None
    stderr_tail: str

    @property
    def signal_name(self) -> str | None:
        """Name of the signal that killed it, such as "SIGKILL"."""
        if self.returncode >= 0:
            return None
        try:
            return signal.Signals(-self.returncode).name
        except ValueError:
            return f"signal {-self.returncode}"


def child_environment(job_dir: Path, threads: int, *, compute: bool) -> dict[str, str]:
    """The whole environment of a child: no setting, credential or proxy of the parent is in it."""
    environment = {
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(job_dir),
        "TMPDIR": str(job_dir),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "OMP_NUM_THREADS": str(threads),
        # Idle threads sleep: spinning ones make a scan many times slower on a machine that has other work.
        "OMP_WAIT_POLICY": "PASSIVE",
        "ASSAY_PARENT_PID": str(os.getpid()),
        "CUDA_VISIBLE_DEVICES": "",
    }
    if compute:
        environment["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # repeatable matrix products on CUDA
        del environment["CUDA_VISIBLE_DEVICES"]
        for name in ("CUDA_VISIBLE_DEVICES", "LD_LIBRARY_PATH"):  # where container runtimes put the driver
            if name in os.environ:
                environment[name] = os.environ[name]
    return environment


def run_child(
    command: tuple[str, ...],
    job_dir: Path,
    *,
    environment: Mapping[str, str],
    on_event: OnEvent,
    halt: AskHalt,
    grace_s: float = KILL_GRACE_S,
) -> ChildExit:
    """Run one child to its end.

    Args:
        command: program and arguments; `job_dir` is appended.
        on_event: called in this thread with each well-formed event.
        halt: asked every POLL_S; the first answer is final. The child's group then gets SIGTERM and `grace_s`
            later SIGKILL; a fenced one is killed at once, it must not write any more.

    Whatever happens here, exceptions included, no process of the child's group outlives the call.
    """
    (job_dir / OUTCOME).unlink(missing_ok=True)
    empty = job_dir / WORKING_DIR
    empty.mkdir(mode=0o700, exist_ok=True)
    process = subprocess.Popen(  # noqa: S603 - the command line is ours, see ChildCommands
        [*command, str(job_dir)],
        cwd=empty,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    stopper = _Stopper(process.pid, halt, grace_s)
    lines, tail = EventLines(on_event), bytearray()
    try:
        with selectors.DefaultSelector() as pipes:
            for stream, take in ((process.stdout, lines.feed), (process.stderr, tail.extend)):
                if stream is not None:
                    os.set_blocking(stream.fileno(), False)
                    pipes.register(stream, selectors.EVENT_READ, take)
            while process.poll() is None:
                _pump(pipes, POLL_S)
                del tail[:-STDERR_TAIL_BYTES]
                stopper.step()
            while _pump(pipes, 0):
                pass
        lines.close()
    finally:
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    text = tail[-STDERR_TAIL_BYTES:].decode(errors="replace")
    return ChildExit(process.returncode, read_outcome(job_dir), stopper.reason, text)


def read_outcome(job_dir: Path) -> ChildResult | None:
    """The child's outcome.json, with texts made harmless; None if it is missing or not what it should be."""
    data = read_small_file(job_dir / OUTCOME, MAX_OUTCOME_BYTES)
    if data is None:
        return None
    try:
        result = ChildResult.model_validate(json.loads(data))
    except (ValidationError, ValueError, RecursionError):
        return None
    if result.error is None:
        return result
    error = result.error
    cleaned = ErrorInfo(
        code=clean_text(error.code, 100),
        detail=clean_text(error.detail),
        hint=clean_text(error.hint),
        retryable=error.retryable,
    )
    return result.model_copy(update={"error": cleaned})


def read_small_file(path: Path, limit: int) -> bytes | None:
    """Content of a regular file that a child wrote; None if absent, a link, special, or over `limit` bytes."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
            return None
        return file.read(limit)


class _Stopper:
    """Asks whether to stop, then sees to it that the child's group ends."""

    def __init__(self, pid: int, halt: AskHalt, grace_s: float) -> None:
        self._pid, self._halt, self._grace_s = pid, halt, grace_s
        self._kill_at = 0.0
        self.reason: Halt | None = None

    def step(self) -> None:
        if self.reason is None:
            self.reason = self._halt()
            if self.reason is None:
                return
            self._kill_at = time.monotonic() + self._grace_s
            _signal_group(self._pid, signal.SIGKILL if self.reason is Halt.FENCED else signal.SIGTERM)
        elif time.monotonic() >= self._kill_at:
            _signal_group(self._pid, signal.SIGKILL)


def _pump(pipes: selectors.BaseSelector, timeout_s: float) -> bool:
    """Read what is there; False if nothing was."""
    got = False
    for key, _ in pipes.select(timeout_s):
        try:
            data = os.read(key.fd, 65536)
        except BlockingIOError:
            continue
        if data:
            got = True
            key.data(data)
        else:
            pipes.unregister(key.fileobj)
    return got


def _signal_group(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # already gone; macOS says so for zombies
        os.killpg(pid, number)
