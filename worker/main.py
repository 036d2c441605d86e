"""`assay worker` and `assay sweep`: composition roots of the processes beside the API."""

import logging
import signal

from core.errors import InvalidInputError
from core.jobs.service import JobService
from core.registry.session import Database
from core.settings import Settings
from core.storage.local import LocalBlobStore
from worker import sandbox
from worker.app import make_app, make_controller, request_stop
from worker.children import ChildCommands, real_children
from worker.dispatch import CeleryDispatcher, publish_after_commit
from worker.housekeeping import Sweeper
from worker.hub import hub_desk
from worker.runner import Runner, RunnerOptions
from worker.tasks import register
from worker.workspace import remove_left_overs, work_root

log = logging.getLogger(__name__)

_TERMINATION = (signal.SIGTERM, signal.SIGINT)


def runner_options(settings: Settings) -> RunnerOptions:
    """What of the settings concerns the runner."""
    return RunnerOptions(
        work_root=work_root(settings.data_dir),
        renew_s=settings.renew_s,
        deadline_s=settings.deadline_s,
        cancel_poll_s=min(1.0, settings.renew_s),
        threads=settings.threads,
    )


def run_worker(settings: Settings, *, commands: ChildCommands | None = None) -> int:
    """Take scans from the broker until SIGTERM or SIGINT; then put the running one back and return the exit status.

    Raises:
        InvalidInputError: ("broker_required") without a broker address: then the worker is in the API process.
        UnavailableError: ("sandbox_unavailable") the sandbox is required, and this host lacks a part of it.
    """
    _configure_logging()
    broker_url = _broker_url(settings)
    sandbox.require(settings.sandbox)
    database = Database(settings.resolved_database_url)
    store = LocalBlobStore(settings.blobs_dir, settings.free_space_reserve_bytes)
    service = JobService(database, store, settings)
    options = runner_options(settings)
    dispatcher = _publisher(settings)
    runner = Runner(
        service,
        store,
        options,
        hub_desk(settings, database),
        commands=commands or real_children(settings.sandbox),
        announce=lambda scan_id: publish_after_commit(service, dispatcher, scan_id),
    )
    app = make_app(broker_url, deadline_s=settings.deadline_s)
    register(app, runner)
    remove_left_overs(options.work_root)
    controller = make_controller(app, runner.owner, lambda: log.info("worker %s takes scans", runner.owner))

    def stop() -> None:
        runner.drain()
        request_stop()

    for number in _TERMINATION:
        signal.signal(number, lambda *_: stop())
    controller.start()
    database.dispose()
    return int(controller.exitcode or 0)


def run_sweeper(settings: Settings) -> int:
    """Sweep every `settings.sweep_s` until SIGTERM or SIGINT; returns the exit status. Raises as run_worker."""
    _configure_logging()
    _broker_url(settings)
    database = Database(settings.resolved_database_url)
    store = LocalBlobStore(settings.blobs_dir, settings.free_space_reserve_bytes)
    service = JobService(database, store, settings)
    sweeper = Sweeper(service, _publisher(settings), work_root(settings.data_dir), settings.sweep_s)
    signal.pthread_sigmask(signal.SIG_BLOCK, _TERMINATION)  # before the thread starts: it inherits the mask
    sweeper.start()
    log.info("sweeping every %.0f s", settings.sweep_s)
    signal.sigwait(_TERMINATION)
    sweeper.stop()
    database.dispose()
    return 0


def _publisher(settings: Settings) -> CeleryDispatcher:
    return CeleryDispatcher(make_app(settings.broker_url, deadline_s=settings.deadline_s, publisher=True))


def _broker_url(settings: Settings) -> str:
    if not settings.broker_url:
        raise InvalidInputError(
            "broker_required",
            "Without ASSAY_BROKER_URL the worker and the sweeper are part of the API process.",
            "Set ASSAY_BROKER_URL, or run `assay serve` alone.",
        )
    return settings.broker_url


def _configure_logging() -> None:
    """To standard error, unless somebody has set it up already."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("celery").setLevel(logging.WARNING)
