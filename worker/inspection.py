"""A dry run: the parsing child alone, in the foreground. What it says is checked before it is believed."""

from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from core.config import ScanConfig
from core.errors import CanceledError, EngineError, UnavailableError
from core.report.inspection import InspectionReport
from worker.attempt import INSPECTION_REPORT, INTAKE_DIR, available_threads, run_children
from worker.children import ChildCommands, Halt, read_small_file
from worker.local import error_from
from worker.protocol import JobSpec, ModelFile
from worker.workspace import job_folder

LIMIT_S = 300.0
_MAX_REPORT_BYTES = 8 * 2**20
_NAME = "inspect"


def inspect_model(
    model_path: Path,
    filename: str,
    files: tuple[ModelFile, ...],
    config: ScanConfig,
    work_root: Path,
    commands: ChildCommands,
    *,
    threads: int = 0,
    should_stop: Callable[[], bool] = lambda: False,
    limit_s: float = LIMIT_S,
) -> InspectionReport:
    """Describe a model. A model that is refused gives a report too, with the reason in it.

    Args:
        model_path: the one file; of a model of several files its manifest.
        filename: for display.
        files: of a model of several files.
        config: architecture, preprocess and preset as for a scan.
        work_root: where the job folder is made; nothing is left in it.
        commands: the children.
        threads: CPU threads for the measurement; 0: every core.
        should_stop: asked several times a second.
        limit_s: wall time the child may take.

    Raises:
        CanceledError: `should_stop` said so.
        EngineError: the child failed; its `code` says why.
        UnavailableError: there is no room or no memory for the child at the moment.
    """
    spec = JobSpec(
        scan_id=_NAME,
        model_path=model_path,
        model_files=files,
        model_filename=filename,
        model_sha256="",
        reference_path=None,
        reference_sha256=None,
        config=config.to_json(),
        threads=available_threads(threads),
        dry_run=True,
    )

    def halt() -> Halt | None:
        return Halt.CANCELED if should_stop() else None

    with job_folder(work_root, _NAME, 1) as folder:
        end = run_children(folder, spec, commands, on_event=lambda _: None, halt=halt, parse_limit_s=limit_s)
        if end.halt is not None:
            raise CanceledError
        if end.error is not None:
            if end.error.retryable:
                raise UnavailableError(end.error.code, end.error.detail, end.error.hint or "Try again later.")
            raise error_from(end.error)
        return _load(folder / INTAKE_DIR / INSPECTION_REPORT)


def _load(path: Path) -> InspectionReport:
    data = read_small_file(path, _MAX_REPORT_BYTES)
    if data is None:
        raise EngineError("invalid_result", "The dry run left no report.")
    try:
        return InspectionReport.model_validate_json(data)
    except ValidationError as error:
        raise EngineError("invalid_result", "The dry run's report does not fit its schema.") from error
