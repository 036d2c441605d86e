"""A scan without server, queue or database: the same two children, in the foreground."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from core.config import ScanConfig
from core.domain import SandboxMode
from core.errors import AssayError, CanceledError, EngineError, UnsafeError, UnsupportedError
from core.report.schema import Report
from worker.attempt import RESULT_DIR, available_threads, run_children
from worker.children import ChildCommands, Halt, real_children
from worker.events import OnEvent
from worker.local_model import LocalModel, file_digest
from worker.protocol import ErrorInfo, JobSpec
from worker.results import load_report
from worker.workspace import job_folder

_SCAN_ID = "local"


def scan_locally(
    model: LocalModel,
    reference_path: Path | None,
    config: ScanConfig,
    on_event: OnEvent,
    should_stop: Callable[[], bool],
    work_dir: Path,
    *,
    threads: int = 0,
    sandbox: SandboxMode = SandboxMode.AUTO,
    commands: ChildCommands | None = None,
) -> tuple[Report, Path]:
    """Scan a model on this machine.

    Args:
        model: see worker/local_model.py.
        reference_path: a zip file or a folder of images.
        on_event: called with the events of core.context, in this thread.
        should_stop: asked several times a second.
        work_dir: existing folder of the caller's; the result stays in it, nothing else does.
        sandbox: what the parsing child does where a layer of its sandbox is missing.

    Returns:
        The report, and the folder with the artifacts it names.

    Raises:
        InvalidInputError: a path is not what it should be.
        CanceledError: `should_stop` said so.
        UnsupportedError, UnsafeError: the files are refused.
        EngineError: the scan failed; its `code` says why.
    """
    spec = JobSpec(
        scan_id=_SCAN_ID,
        model_path=model.path,
        model_files=model.files,
        model_filename=model.filename,
        model_sha256=model.sha256,
        reference_path=None if reference_path is None else reference_path.resolve(),
        reference_sha256=None if reference_path is None else reference_digest(reference_path),
        config=config.to_json(),
        threads=available_threads(threads),
    )

    def halt() -> Halt | None:
        return Halt.CANCELED if should_stop() else None

    with job_folder(work_dir, _SCAN_ID, 1) as folder:
        end = run_children(folder, spec, commands or real_children(sandbox), on_event=on_event, halt=halt)
        if end.halt is not None:
            raise CanceledError
        if end.error is not None:
            raise error_from(end.error)
        report = load_report(folder / RESULT_DIR, spec)
        result_dir = work_dir / RESULT_DIR
        (folder / RESULT_DIR).rename(result_dir)
    return report, result_dir


def reference_digest(path: Path) -> str:
    """SHA-256 of a zip file; of a folder: over its sorted relative file names and their contents' digests.

    Raises InvalidInputError if there is no such file or folder.
    """
    if not path.is_dir():
        return file_digest(path, "reference set")
    digest = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file() and not p.is_symlink()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_digest(file, 'reference set')}\n".encode())
    return digest.hexdigest()


def error_from(info: ErrorInfo) -> AssayError:
    """The exception that says what a child's error says."""
    kind: type[AssayError] = EngineError
    if info.code.startswith("unsupported_"):
        kind = UnsupportedError
    elif info.code.startswith("unsafe_"):
        kind = UnsafeError
    return kind(info.code, info.detail, info.hint)
