"""What `assay worker`, `assay sweep` and the embedded worker of `assay serve` do, with children of choice.

usage: python -m tests.support.assay_process worker|sweep|embedded [--fake]
"""

import signal
import sys
import time

from core.jobs.service import JobService
from core.registry.session import Database
from core.settings import Settings
from core.storage.local import LocalBlobStore
from tests.support.children import fake_children
from worker.embedded import EmbeddedWorker
from worker.hub import hub_desk
from worker.main import run_sweeper, run_worker


def embedded(settings: Settings, **options: object) -> int:
    """The background of `assay serve` until SIGTERM."""
    told: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: told.append(number))
    database = Database(settings.resolved_database_url)
    store = LocalBlobStore(settings.blobs_dir, settings.free_space_reserve_bytes)
    service = JobService(database, store, settings)
    worker = EmbeddedWorker(settings, service, hub_desk(settings, database), store, **options)
    worker.start()
    while not told:
        time.sleep(0.02)
    worker.stop()
    database.dispose()
    return 0


if __name__ == "__main__":
    settings = Settings()
    commands = fake_children() if "--fake" in sys.argv else None
    if sys.argv[1] == "worker":
        sys.exit(run_worker(settings, commands=commands))
    if sys.argv[1] == "sweep":
        sys.exit(run_sweeper(settings))
    sys.exit(embedded(settings, commands=commands))
