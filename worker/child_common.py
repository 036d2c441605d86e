"""What both child processes do around their work. Runs inside the child only."""

import contextlib
import errno
import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel

from core.context import RunContext
from core.errors import AssayError, CanceledError
from worker.children import OUTCOME, SPEC
from worker.protocol import ChildResult, ErrorInfo

Spec = TypeVar("Spec", bound=BaseModel)

_PARENT_POLL_S = 0.5


def run_in_child(
    work: Callable[[Path, Spec, RunContext], None],
    kind: type[Spec],
    confine: Callable[[Path, Spec], None] | None = None,
) -> NoReturn:
    """Do `work` on the job folder named by the first argument, write outcome.json, and end the process.

    `kind` is what spec.json in that folder holds.

    `confine` is called first, while there is only one thread, and may refuse with an AssayError.

    Leaves without the interpreter's tear-down: what counts is written, and destructors of device libraries have
    been seen to crash.
    """
    job_dir = Path(sys.argv[1])
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # whatever the thread that started us blocks
    emit = _take_standard_output()
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)

    spec = kind.model_validate_json((job_dir / SPEC).read_bytes())

    def whole_work(ctx: RunContext) -> None:
        if confine is not None:
            confine(job_dir, spec)
        _die_with_parent(int(os.environ["ASSAY_PARENT_PID"]))
        work(job_dir, spec, ctx)

    result = _outcome(whole_work, RunContext(emit=emit, should_stop=stop.is_set))
    temporary = job_dir / f"{OUTCOME}.tmp"
    temporary.write_text(result.model_dump_json())
    temporary.replace(job_dir / OUTCOME)
    sys.stderr.flush()
    os._exit(0)


def _outcome(work: Callable[[RunContext], None], ctx: RunContext) -> ChildResult:
    try:
        work(ctx)
    except CanceledError:
        return ChildResult(status="canceled")
    except AssayError as error:
        return _failed(error.code, error.detail, error.hint, error.retryable)
    except Exception as error:
        traceback.print_exc()
        if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's own, any device
            return _failed("out_of_memory", "The scan needs more memory than this worker has.")
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _failed("storage_full", "The worker's disk is full.", retryable=True)
        return _failed("internal_error", f"An unexpected {type(error).__name__} ended the scan; this is a bug.")
    return ChildResult(status="ok")


def _failed(code: str, detail: str, hint: str = "", retryable: bool = False) -> ChildResult:
    return ChildResult(status="failed", error=ErrorInfo(code=code, detail=detail, hint=hint, retryable=retryable))


def _take_standard_output() -> Callable[[Mapping[str, Any]], None]:
    """Keep the event pipe for events: whatever else prints goes to standard error."""
    fd = os.dup(1)
    os.dup2(2, 1)

    def emit(event: Mapping[str, Any]) -> None:
        data = memoryview(json.dumps(dict(event)).encode() + b"\n")
        while data:
            data = data[os.write(fd, data) :]

    return emit


def _die_with_parent(parent: int) -> None:
    """A worker killed without warning must not leave its child on the device."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_PARENT_POLL_S)
        with contextlib.suppress(OSError):
            os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
