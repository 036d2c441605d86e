"""`assay scan`: here or on a server, with the same output."""

import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from api.commands.common import ExitCode, client, err, exit_code_of, explain, load_settings, print_json
from api.commands.progress import ScanProgress
from api.commands.result import show_report
from api.commands.target import ReferenceTarget, Target, bring, send, tell_ignored
from api.commands.unpack import check_empty, unpack_repository
from api.reference_zip import zip_folder
from api.schemas import ScanOptions
from core.config import ScanConfig
from core.domain import PURIFIED_ROLES, ArtifactRole, JobState, PurificationStatus, Verdict
from core.errors import AssayError, CanceledError, EngineError, InvalidInputError

_EXIT_OF_VERDICT = {
    Verdict.CLEAN: ExitCode.CLEAN,
    Verdict.BACKDOORED: ExitCode.BACKDOORED,
    Verdict.INCONCLUSIVE: ExitCode.INCONCLUSIVE,
}


@dataclass(frozen=True, slots=True)
class ScanRequest:
    """What the command line asked for.

    Args:
        model: the suspect.
        reference: clean images.
        target: where the purified weights go, if there are any: a file, or a folder for a repository.
        server: address; None: scan on this machine.
    """

    model: Target
    reference: ReferenceTarget | None
    options: ScanOptions
    target: Path | None
    server: str | None
    as_json: bool


Fetch = Callable[[str, Path], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished scan: its report, and how to get a file it names."""

    report: Mapping[str, Any]
    fetch: Fetch


def run(request: ScanRequest) -> ExitCode:
    """Scan, show, save; the exit code is the verdict's."""
    try:
        if request.target is not None and request.target.is_dir():
            check_empty(request.target)  # before the work, not after it
        with tempfile.TemporaryDirectory(prefix="assay-") as folder, stop_on_interrupt() as stop:
            work_dir = Path(folder)
            config = request.options.to_config(has_reference=request.reference is not None)
            reference = _reference_file(request, work_dir)
            scan = _on_server if request.server else _here
            with ScanProgress(config.purify) as progress:
                outcome = scan(request, config, reference, work_dir, progress, stop)
            if request.target is not None:
                _save(outcome, request.target)
    except AssayError as error:
        explain(error, as_json=request.as_json)
        return exit_code_of(error)
    if request.as_json:
        print_json(outcome.report)
    else:
        show_report(outcome.report, request.target)
    return _EXIT_OF_VERDICT[Verdict(outcome.report["detection"]["verdict"])]


def _here(
    request: ScanRequest,
    config: ScanConfig,
    reference: Path | None,
    work_dir: Path,
    progress: ScanProgress,
    stop: Event,
) -> Outcome:
    from worker.local import scan_locally

    settings = load_settings()
    fetched = work_dir / "fetched"
    fetched.mkdir()
    model = bring(request.model, fetched, progress, stop)
    report, result_dir = scan_locally(
        model,
        reference,
        config,
        progress.on_event,
        stop.is_set,
        work_dir,
        threads=settings.threads,
        sandbox=settings.sandbox,
    )
    names = {item.sha256: item.filename for item in report.artifacts}
    return Outcome(report.model_dump(mode="json"), lambda sha256, path: _copy(result_dir / names[sha256], path))


def _on_server(
    request: ScanRequest,
    config: ScanConfig,
    reference: Path | None,
    work_dir: Path,
    progress: ScanProgress,
    stop: Event,
) -> Outcome:
    with client(request.server) as server:
        model = send(request.model, server, progress, stop)
        reference_digest = None
        if reference is not None:
            reference_digest = server.upload(reference, progress.uploading("reference set", stop))
        set_id = request.reference.set_id if request.reference else None
        scan = server.submit(model, reference_digest, config, force=request.options.force, reference_set=set_id)
        _tell_resolved(scan)
        scan = server.wait(scan["id"], progress.on_scan, stop.is_set)
        if scan["state"] == JobState.CANCELED:
            raise CanceledError
        if scan["state"] == JobState.FAILED:
            error = scan["error"]
            raise EngineError(error["code"], error["detail"], error["hint"])
        report = server.report(scan["id"])

        # Fetched while the connection is there; the files are small beside the scan.
        fetched = {}
        if request.target is not None:
            for item in report["artifacts"]:
                if item["role"] in PURIFIED_ROLES:
                    fetched[item["sha256"]] = work_dir / item["sha256"]
                    server.download(item["sha256"], fetched[item["sha256"]])
    return Outcome(report, lambda sha256, path: _copy(fetched[sha256], path))


def _reference_file(request: ScanRequest, work_dir: Path) -> Path | None:
    """A folder becomes a zip file, here as for a server: one digest for one reference set.

    Raises:
        InvalidInputError: `server_required`, a set of a server's for a scan on this machine.
    """
    if request.reference is None:
        return None
    if request.reference.set_id is not None and not request.server:
        raise InvalidInputError(
            "server_required",
            f"{request.reference.set_id} is a reference set of a server, and this scan runs here.",
            "Name the server with --server, or the images themselves.",
        )
    reference = request.reference.path
    if reference is None or not reference.is_dir():
        return reference
    target = work_dir / "reference.zip"
    zip_folder(reference, target)
    return target


def _save(outcome: Outcome, target: Path) -> None:
    """The purified weights: as safetensors if the name says so, else in the container or layout of the suspect."""
    purification = outcome.report["purification"]
    if purification["status"] != PurificationStatus.PUBLISHED:
        why = purification["reason"] or purification["status"]
        err().print(
            f"No purified weights were published ({why}); {target} is not written.", style="yellow", markup=False
        )
        return
    by_role = {item["role"]: item["sha256"] for item in outcome.report["artifacts"]}
    wanted = list(reversed(PURIFIED_ROLES) if target.suffix == ".safetensors" else PURIFIED_ROLES)
    role = next(role for role in wanted if role in by_role)
    if role is not ArtifactRole.PURIFIED_REPOSITORY or target.suffix == ".zip":
        outcome.fetch(by_role[role], target)
        return
    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        archive = Path(folder) / "repository.zip"
        outcome.fetch(by_role[role], archive)
        unpack_repository(archive, target)


def _tell_resolved(scan: Mapping[str, Any]) -> None:
    """What a Hub reference stands for, and that the answer is an earlier one."""
    if scan["resolved"] is not None:
        err().print(f"{scan['resolved']['repo']} at {scan['resolved']['commit']}", markup=False)
        tell_ignored(tuple(scan["resolved"]["ignored"]))
    if scan["reused"]:
        err().print(f"The same files were scanned before: {scan['id']}", markup=False)


def _copy(source: Path, target: Path) -> None:
    """Whole or not at all."""
    temporary = target.with_name(f".{target.name}.part")
    try:
        shutil.copyfile(source, temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def stop_on_interrupt() -> Iterator[Event]:
    """Set by the first Ctrl-C or SIGTERM; a second Ctrl-C interrupts at once."""
    stop = Event()

    def handler(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        err().print("Stopping the scan; once more to leave at once.", style="yellow")

    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
