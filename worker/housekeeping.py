"""The sweep: what expired goes back to the queue, what is queued is announced, left-overs are removed.

The clock of every decision here is the database's.
"""

import logging
import threading
import time
from pathlib import Path

from core.errors import AssayError, UnavailableError
from core.jobs.dispatcher import Dispatcher
from core.jobs.service import JobService
from worker.workspace import remove_left_overs

log = logging.getLogger(__name__)

_BATCH = 200
#: How often store and registry are compared.
_CHECK_S = 3_600.0


def sweep_once(service: JobService, dispatcher: Dispatcher, *, everything: bool = False) -> int:
    """Reap expired leases and announce every due scan; returns how many were announced.

    Announcing stops at the first refusal of the broker: the rows stay due.

    Args:
        everything: announce all that is queued, for a broker that has just started empty.
    """
    for scan_id in service.reap():
        log.warning("%s: its worker is lost; the attempt is over", scan_id)
    announced = 0
    for scan_id in service.due(_BATCH, include_published=everything):
        try:
            dispatcher.publish(scan_id)
        except UnavailableError as error:
            log.warning("%s", error.detail)
            break
        service.mark_published(scan_id)
        announced += 1
    return announced


class Sweeper:
    """Sweeps at once and then every `interval_s`, in a thread of its own or in the caller's (`run`).

    Args:
        work_root: where to remove what killed workers left behind.
        fresh_broker: the broker started empty with this process, so the first sweep announces all that is queued.
    """

    def __init__(
        self,
        service: JobService,
        dispatcher: Dispatcher,
        work_root: Path,
        interval_s: float,
        *,
        fresh_broker: bool = False,
    ) -> None:
        self._service, self._dispatcher = service, dispatcher
        self._work_root, self._interval_s = work_root, interval_s
        self._announce_all = fresh_broker
        self._next_check = 0.0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Sweep until `stop`. No error ends it: the next round may find the database or the broker back."""
        while not self._stop.is_set():
            try:
                sweep_once(self._service, self._dispatcher, everything=self._announce_all)
                self._announce_all = False
                remove_left_overs(self._work_root)
                self._service.expire_uploads()
                self._check_store()
            except AssayError as error:
                log.warning("this sweep failed, the next one is in %.0f s: %s", self._interval_s, error.detail)
            except Exception:
                log.exception("this sweep failed, the next one is in %.0f s", self._interval_s)
            self._stop.wait(self._interval_s)

    def _check_store(self) -> None:
        """At the first sweep, then once in a while: it lists every stored file."""
        if time.monotonic() < self._next_check:
            return
        self._next_check = time.monotonic() + _CHECK_S
        found = self._service.check_store()
        for sha256 in found.missing:
            log.error("the stored bytes of %s are missing or incomplete", sha256)
        if found.orphans_removed or found.temp_removed:
            log.info("removed %d unknown and %d unfinished files", found.orphans_removed, found.temp_removed)

    def start(self) -> None:
        self._thread = threading.Thread(target=self.run, name="sweeper", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End `run`; waits for the thread, if there is one."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
