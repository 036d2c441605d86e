"""The part of the API process that needs Celery, brought up beside the first requests instead of before them."""

import logging
from threading import Lock, Thread
from typing import TYPE_CHECKING

from core.errors import UnavailableError
from core.jobs.dispatcher import SMALL_QUEUE
from core.jobs.service import JobService
from core.settings import Settings
from core.storage.protocol import BlobStore

if TYPE_CHECKING:
    from worker.dispatch import CeleryDispatcher
    from worker.embedded import EmbeddedWorker
    from worker.hub import HubDesk

log = logging.getLogger(__name__)


class Background:
    """A Dispatcher from the start: until the thread behind it is up, publishing says "later".

    Nothing is lost by that: the row is the job, and the sweeper's first round announces it. Without a broker that
    round is the embedded worker's own start.
    """

    def __init__(self, settings: Settings, service: JobService, store: BlobStore, desk: "HubDesk") -> None:
        self._settings, self._service, self._store, self._desk = settings, service, store, desk
        self._dispatcher: CeleryDispatcher | None = None
        self._worker: EmbeddedWorker | None = None
        self._failed: str | None = None
        self._stopped = False
        self._lock = Lock()
        self._thread = Thread(target=self._run, name="background-start", daemon=True)

    def start(self) -> None:
        """Returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Put a running scan back into the queue; bounded by the grace its processes are given."""
        with self._lock:
            self._stopped = True
            worker = self._worker
        if worker is not None:
            worker.stop()
        self._thread.join(timeout=15)

    def check(self) -> None:
        """Raises UnavailableError unless scans can be announced now."""
        self._require().ping()

    def publish(self, scan_id: str, queue: str = SMALL_QUEUE) -> None:
        """See Dispatcher.publish."""
        self._require().publish(scan_id, queue)

    def _require(self) -> "CeleryDispatcher":
        if self._dispatcher is not None:
            return self._dispatcher
        if self._failed is not None:
            raise UnavailableError("worker_failed", "The embedded worker could not be started; see the server's log.")
        raise UnavailableError("worker_starting", "The worker is starting.")

    def _run(self) -> None:
        try:
            if self._settings.is_embedded:
                self._start_embedded()
            else:
                self._dispatcher = _publisher(self._settings)
        except Exception as error:
            self._failed = str(error)
            log.exception("the background of the API could not be started")

    def _start_embedded(self) -> None:
        from worker.embedded import EmbeddedWorker

        worker = EmbeddedWorker(self._settings, self._service, self._desk, self._store)
        with self._lock:
            if self._stopped:
                return
            worker.start()
            self._worker, self._dispatcher = worker, worker.dispatcher


def _publisher(settings: Settings) -> "CeleryDispatcher":
    from worker.app import make_app
    from worker.dispatch import CeleryDispatcher

    return CeleryDispatcher(make_app(settings.broker_url, deadline_s=settings.deadline_s, publisher=True))
