"""The worker inside the API process: the same tasks, on a queue in memory. Durability is in the rows: what was
queued or running when the process died is found by the first sweep after the next start.

One per process, and one process only: nobody else sees this queue.
"""

import logging
import threading

from core.jobs.service import JobService
from core.settings import Settings
from core.storage.local import LocalBlobStore
from core.storage.protocol import BlobStore
from worker.app import make_app, make_controller, request_stop
from worker.children import ChildCommands, real_children
from worker.dispatch import CeleryDispatcher
from worker.housekeeping import Sweeper
from worker.hub import HubDesk
from worker.main import runner_options
from worker.runner import Runner
from worker.tasks import register

log = logging.getLogger(__name__)

_START_TIMEOUT_S = 10.0


class EmbeddedWorker:
    """Celery on memory:// in a daemon thread, and a sweeper beside it.

    Args:
        service: the job table.
        desk: the way to the Hub.
        store: the blobs; by default the local store of `settings`.
        commands: the children; tests bring their own.
    """

    def __init__(
        self,
        settings: Settings,
        service: JobService,
        desk: HubDesk,
        store: BlobStore | None = None,
        *,
        commands: ChildCommands | None = None,
    ) -> None:
        store = store or LocalBlobStore(settings.blobs_dir, settings.free_space_reserve_bytes)
        options = runner_options(settings)
        self._app = make_app(None, deadline_s=settings.deadline_s)
        #: Announces scans to this worker; what the API submits with.
        self.dispatcher = CeleryDispatcher(self._app)
        self._runner = Runner(service, store, options, desk, commands=commands or real_children(settings.sandbox))
        register(self._app, self._runner)
        self._sweeper = Sweeper(service, self.dispatcher, options.work_root, settings.sweep_s, fresh_broker=True)
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start both threads; returns when scans are being taken. Raises RuntimeError if that does not happen."""
        controller = make_controller(self._app, self._runner.owner, self._ready.set)
        self._thread = threading.Thread(target=controller.start, name="embedded-worker", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S):
            raise RuntimeError("the embedded worker did not start")
        self._sweeper.start()

    def stop(self) -> None:
        """Put a running scan back into the queue and end both threads; bounded by the children's grace."""
        self._sweeper.stop()
        self._runner.drain()
        request_stop()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
