"""Looking through a reference set: one child, in the foreground. What it says is checked before it is believed."""

import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from core.errors import AssayError, CanceledError, EngineError, InvalidInputError, UnavailableError
from core.report.reference import ReferenceFacts
from worker.attempt import meaning
from worker.children import SPEC, Halt, child_environment, read_small_file, run_child
from worker.local import error_from
from worker.protocol import FACTS, ErrorInfo, ReferenceSpec
from worker.workspace import job_folder

LIMIT_S = 300.0
_MAX_FACTS_BYTES = 4 * 2**20
_NAME = "reference"


def check_reference_set(
    path: Path,
    work_root: Path,
    command: tuple[str, ...],
    *,
    should_stop: Callable[[], bool] = lambda: False,
    limit_s: float = LIMIT_S,
) -> ReferenceFacts:
    """Decode every image of a zip file in a process of its own.

    Args:
        path: the file; read by the child only.
        work_root: where the job folder is made; nothing is left in it.
        command: see children.reference_child.
        should_stop: asked several times a second.
        limit_s: wall time the child may take.

    Raises:
        InvalidInputError, UnsafeError, UnsupportedError: the set cannot be used; see core.data.checking.
        CanceledError: `should_stop` said so.
        UnavailableError: no room or no memory for the child at the moment.
        EngineError: the child failed by our fault.
    """
    until = time.monotonic() + limit_s

    def halt() -> Halt | None:
        if should_stop():
            return Halt.CANCELED
        return Halt.TIME_LIMIT if time.monotonic() > until else None

    with job_folder(work_root, _NAME, 1) as folder:
        (folder / SPEC).write_text(ReferenceSpec(path=path).model_dump_json())
        exit_ = run_child(
            command,
            folder,
            environment=child_environment(folder, 1, compute=False),
            on_event=lambda _: None,
            halt=halt,
        )
        if exit_.halt is Halt.TIME_LIMIT:
            raise InvalidInputError(
                "reference_timed_out",
                f"Looking through the images took longer than {limit_s:.0f} s.",
                "Send fewer or smaller images; a few hundred per ten classes are enough.",
            )
        end = meaning(exit_, "reference set's")
        if end.halt is not None:
            raise CanceledError
        if end.error is not None:
            raise _error(end.error)
        return _load(folder / FACTS)


def _error(info: ErrorInfo) -> AssayError:
    if info.retryable:
        return UnavailableError(info.code, info.detail, info.hint or "Try again later.")
    if info.code.startswith(("invalid_", "reference_")):
        return InvalidInputError(info.code, info.detail, info.hint)
    return error_from(info)


def _load(path: Path) -> ReferenceFacts:
    data = read_small_file(path, _MAX_FACTS_BYTES)
    if data is None:
        raise EngineError("invalid_result", "Looking through the reference set left no facts.")
    try:
        return ReferenceFacts.model_validate_json(data)
    except ValidationError as error:
        raise EngineError("invalid_result", "The facts about the reference set do not fit their schema.") from error
