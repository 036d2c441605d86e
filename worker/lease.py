"""The thread that keeps a claimed scan ours: renews the lease, reports progress, and learns when to stop."""

import logging
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

from core.errors import AssayError
from core.jobs.service import ClaimedJob, JobService, Renewal
from worker.children import Halt
from worker.events import Event
from worker.progress import ProgressTracker

log = logging.getLogger(__name__)

_MIN_REPORT_S = 2.0  # progress is written at most this often
_MAX_WAITING_EVENTS = 500


class LeaseKeeper:
    """Context manager around the work on one claim.

    The database may be away for a while: the work goes on, since nobody else can claim the scan then either, and
    every later write is fenced by the claim's token.

    Args:
        renew_s: longest time between two renewals.
        poll_s: how often to ask whether a cancel was requested.
        deadline_s: seconds from now after which the scan has to stop.
        draining: set when this worker is shutting down.
    """

    def __init__(
        self,
        service: JobService,
        claim: ClaimedJob,
        tracker: ProgressTracker,
        *,
        renew_s: float,
        poll_s: float,
        deadline_s: float,
        draining: threading.Event,
    ) -> None:
        self._service, self._claim, self._tracker = service, claim, tracker
        self._renew_s, self._poll_s = renew_s, poll_s
        self._deadline = time.monotonic() + deadline_s
        self._draining = draining
        self._events: deque[Event] = deque(maxlen=_MAX_WAITING_EVENTS)
        self._wake, self._stop = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._answer: Halt | None = None
        self._reported = (tracker.stage, tracker.progress)
        self._renewed_at = time.monotonic()  # the claim itself is the first renewal
        self._thread = threading.Thread(target=self._run, name=f"lease-{claim.scan_id}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join()

    def halt(self) -> Halt | None:
        """Why the work has to stop, if it has to. Cheap: touches no database."""
        if self._answer is not None:
            return self._answer
        if time.monotonic() >= self._deadline:
            return Halt.DEADLINE
        return Halt.DRAINING if self._draining.is_set() else None

    def on_event(self, event: Event) -> None:
        """Take an event of a child. Cheap: the thread writes it to the database."""
        self._tracker.update(event)
        if event["event"] != "progress":
            self._events.append(event)
            self._wake.set()

    def confirm(self) -> Halt | None:
        """Renew now, and answer like halt(). Raises what the database raises."""
        self._flush_events()
        self._renew()
        return self.halt()

    def _run(self) -> None:
        while not self._stop.is_set() and self._answer is not Halt.FENCED:
            self._wake.wait(min(self._poll_s, self._renew_s))
            self._wake.clear()
            if self._stop.is_set():
                return
            try:
                self._step()
            except AssayError as error:
                log.warning("%s: could not reach the job table: %s", self._claim.scan_id, error.detail)
                self._stop.wait(min(1.0, self._renew_s))
            except Exception:  # without this thread the lease would run out: whatever it is, go on
                log.exception("%s: could not renew the lease", self._claim.scan_id)
                self._stop.wait(min(1.0, self._renew_s))

    def _step(self) -> None:
        self._flush_events()
        stage, progress = self._reported
        age = time.monotonic() - self._renewed_at
        moved = self._tracker.progress - progress >= 0.01 and age >= min(_MIN_REPORT_S, self._renew_s)
        if age >= self._renew_s or self._tracker.stage is not stage or moved:
            self._renew()
        else:
            self._learn(self._service.cancel_requested(self._claim))

    def _renew(self) -> None:
        with self._lock:
            stage, progress = self._tracker.stage, self._tracker.progress
            self._learn(self._service.renew(self._claim, stage, progress, self._tracker.eta_s))
            self._reported, self._renewed_at = (stage, progress), time.monotonic()

    def _learn(self, renewal: Renewal) -> None:
        if not renewal.alive:
            self._answer = Halt.FENCED
        elif renewal.cancel_requested and self._answer is None:
            self._answer = Halt.CANCELED

    def _flush_events(self) -> None:
        while True:
            with self._lock:
                if not self._events:
                    return
                event = self._events[0]
                self._service.record_event(self._claim, event)
                self._events.popleft()
