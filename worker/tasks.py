"""The one task: a scan id comes in, the runner does the rest."""

import logging

from celery import Celery

from worker.app import SCAN_TASK
from worker.runner import Runner

log = logging.getLogger(__name__)


def register(app: Celery, runner: Runner) -> None:
    """Make `app` execute scans with `runner`.

    An error that gets as far as this (the database is away) is logged and the message dropped: the row is still
    queued, or its lease runs out, and the sweeper announces it again.
    """

    def scan(scan_id: str) -> None:
        try:
            runner.run(scan_id)
        except Exception:
            log.exception("a scan message could not be handled; the sweeper will announce it again")

    app.task(scan, name=SCAN_TASK, shared=False)  # shared tasks belong to every application of the process
