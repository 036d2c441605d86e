"""One attempt at a scan, from the claim to the committed end. The only place where persistence and science meet,
and they meet as files and JSON."""

import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from core.domain import JobState, PurifyMode, Stage
from core.errors import AssayError, IntegrityError, StorageFullError, UnavailableError
from core.hub.errors import HubError
from core.jobs.service import ClaimedJob, JobService
from core.report.schema import ArtifactInfo, Report
from core.storage.protocol import BlobStore
from worker.attempt import PARSE_LIMIT_S, RESULT_DIR, available_threads, run_children
from worker.children import KILL_GRACE_S, ChildCommands, Halt, real_children
from worker.hub import HubDesk
from worker.lease import LeaseKeeper
from worker.materials import Materials
from worker.progress import ProgressTracker
from worker.protocol import ErrorInfo, JobSpec
from worker.results import artifact_path, load_report
from worker.transfer import Halted
from worker.workspace import job_folder

log = logging.getLogger(__name__)

T = TypeVar("T")

_MAX_DRAIN_PAUSE_S = 2.0  # a worker that is told to go does not wait for the database much longer than this


@dataclass(frozen=True, slots=True)
class RunnerOptions:
    """How one worker runs scans. All times in seconds; `threads` 0 means every core."""

    work_root: Path
    renew_s: float = 15.0
    deadline_s: float = 7_200.0  # counted on this machine's monotonic clock, from the claim
    cancel_poll_s: float = 1.0
    kill_grace_s: float = KILL_GRACE_S
    parse_limit_s: float = PARSE_LIMIT_S
    commit_patience_s: float = 120.0  # how long the database may be away when a scan ends
    threads: int = 0


class Runner:
    """Runs the scans whose ids it is given, one at a time.

    Args:
        service: the job table.
        store: where models, reference sets and results are.
        commands: the children; tests bring their own.
        desk: the way to the Hub.
        announce: called with the id of a scan that went back to the queue, best effort.
    """

    def __init__(
        self,
        service: JobService,
        store: BlobStore,
        options: RunnerOptions,
        desk: HubDesk,
        *,
        commands: ChildCommands | None = None,
        announce: Callable[[str], object] | None = None,
    ) -> None:
        self._service, self._store, self._options = service, store, options
        self._materials = Materials(service, store, desk)
        self._commands = commands or real_children()
        self._announce = announce
        self._draining = threading.Event()
        self.owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"

    def drain(self) -> None:
        """Take no more scans, stop the running one and put it back into the queue. Returns at once."""
        self._draining.set()

    @property
    def is_draining(self) -> bool:
        return self._draining.is_set()

    def run(self, scan_id: str) -> JobState | None:
        """Claim `scan_id` and run it to the end of this attempt.

        Returns:
            The state this attempt left the scan in; None if there was nothing to claim (a duplicate message, a
            scan that is finished, canceled, backing off or somebody else's) or if the claim was lost meanwhile.
        """
        if self.is_draining:
            return None
        claim = self._service.claim(scan_id, self.owner)
        if claim is None:
            log.info("%s: nothing to claim", scan_id)
            return None
        log.info("%s: attempt %d begins", scan_id, claim.token)
        state = self._attempt(claim)
        log.info("%s: attempt %d ends: %s", scan_id, claim.token, state or "claim lost, result discarded")
        if state is JobState.QUEUED and self.is_draining and self._announce is not None:
            self._announce(scan_id)
        return state

    def _attempt(self, claim: ClaimedJob) -> JobState | None:
        from_hub = claim.contents is not None and claim.contents.hub is not None
        tracker = ProgressTracker(PurifyMode(claim.config["purify"]), fetches=from_hub)
        keeper = LeaseKeeper(
            self._service,
            claim,
            tracker,
            renew_s=self._options.renew_s,
            poll_s=self._options.cancel_poll_s,
            deadline_s=self._options.deadline_s,
            draining=self._draining,
        )
        with keeper, job_folder(self._options.work_root, claim.scan_id, claim.token) as folder:
            try:
                return self._work(claim, keeper, folder)
            except Halted as halted:
                return self._end(claim, halted.halt)
            except UnavailableError:
                raise  # nobody to tell: the lease runs out and the sweeper finds it
            except AssayError as error:
                failure = ErrorInfo(
                    code=error.code, detail=error.detail, hint=error.hint, retryable=type(error).retryable
                )
                if isinstance(error, HubError):
                    return self._fail(claim, failure, error.retry_after_s)
            except OSError as error:
                log.exception("%s: attempt %d failed", claim.scan_id, claim.token)
                failure = ErrorInfo(
                    code="worker_io_error", detail=f"The worker met {type(error).__name__}.", retryable=True
                )
            return self._end(claim, failure)

    def _work(self, claim: ClaimedJob, keeper: LeaseKeeper, folder: Path) -> JobState | None:
        keeper.on_event({"event": "stage", "stage": Stage.FETCHING.value})
        spec = self._spec(claim, keeper)
        end = run_children(
            folder,
            spec,
            self._commands,
            on_event=keeper.on_event,
            halt=keeper.halt,
            grace_s=self._options.kill_grace_s,
            parse_limit_s=self._options.parse_limit_s,
        )
        if end.halt is not None or end.error is not None:
            return self._end(claim, end.halt or end.error)

        keeper.on_event({"event": "stage", "stage": Stage.PUBLISHING.value})
        report = load_report(folder / RESULT_DIR, spec)
        artifacts = self._publish(report, folder / RESULT_DIR)
        halt = self._patiently(keeper.confirm)
        if halt is not None:
            return self._end(claim, halt)
        if self._patiently(lambda: self._service.succeed(claim, report, artifacts)):
            return JobState.SUCCEEDED
        return self._after_refusal(claim, keeper)

    def _spec(self, claim: ClaimedJob, keeper: LeaseKeeper) -> JobSpec:
        """Checks that the stored bytes still are what their digests say. Raises as Materials.place."""
        placed = self._materials.place(
            claim.org_id, claim.model_sha256, claim.contents, on_event=keeper.on_event, halt=keeper.halt
        )
        return JobSpec(
            scan_id=claim.scan_id,
            model_path=placed.model_path,
            model_files=placed.model_files,
            model_filename=claim.model_filename,
            model_sha256=claim.model_sha256,
            reference_path=self._materials.verified(claim.reference_sha256) if claim.reference_sha256 else None,
            reference_sha256=claim.reference_sha256,
            config=claim.config,
            threads=available_threads(self._options.threads),
        )

    def _publish(self, report: Report, result_dir: Path) -> list[ArtifactInfo]:
        for artifact in report.artifacts:
            blob = self._store.put_file(artifact_path(result_dir, artifact))
            if blob.sha256 != artifact.sha256:
                raise IntegrityError("artifact_changed", "A result file changed while it was being stored.")
        return list(report.artifacts)

    def _after_refusal(self, claim: ClaimedJob, keeper: LeaseKeeper) -> JobState | None:
        """`succeed` was refused: either a cancel came just before it, or the claim is lost."""
        halt = self._patiently(keeper.confirm)
        return self._end(claim, halt) if halt is Halt.CANCELED else None

    def _end(self, claim: ClaimedJob, why: Halt | ErrorInfo | None) -> JobState | None:
        """Commit the end of an attempt that did not succeed."""
        if isinstance(why, ErrorInfo):
            return self._fail(claim, why)
        if why is Halt.CANCELED:
            return JobState.CANCELED if self._patiently(lambda: self._service.canceled(claim)) else None
        if why is Halt.DRAINING:
            return JobState.QUEUED if self._patiently(lambda: self._service.release(claim)) else None
        if why is Halt.DEADLINE:
            return self._fail(
                claim,
                ErrorInfo(
                    code="deadline_exceeded",
                    detail="The scan took longer than this service allows.",
                    hint="Use a faster preset or a smaller model, or ask the operator for a longer deadline.",
                ),
            )
        return None  # fenced: somebody else's scan by now, whatever we made of it is discarded

    def _fail(self, claim: ClaimedJob, error: ErrorInfo, retry_after_s: float = 0.0) -> JobState | None:
        return self._patiently(
            lambda: self._service.fail(
                claim,
                code=error.code,
                detail=error.detail,
                hint=error.hint,
                retryable=error.retryable,
                retry_after_s=retry_after_s,
            )
        )

    def _patiently(self, commit: Callable[[], T]) -> T:
        """`commit`, again while the database is away. Each such write is one conditional UPDATE: safe to repeat."""
        give_up = time.monotonic() + self._options.commit_patience_s
        pause = 0.2
        while True:
            try:
                return commit()
            except (UnavailableError, StorageFullError) as error:
                if time.monotonic() + pause > give_up or (self.is_draining and pause > _MAX_DRAIN_PAUSE_S):
                    raise
                log.warning("could not write to the job table, trying again in %.1f s: %s", pause, error.detail)
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
