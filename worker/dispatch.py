"""Ringing the doorbell: announce a queued scan to the workers."""

import contextlib
import logging

from celery import Celery
from kombu.exceptions import OperationalError

from core.errors import UnavailableError
from core.jobs.dispatcher import SMALL_QUEUE, Dispatcher
from core.jobs.service import JobService
from worker.app import SCAN_TASK

log = logging.getLogger(__name__)


class CeleryDispatcher:
    """Dispatcher over Celery. Thread-safe: a connection of its own for each message, which is cheap at this rate
    and leaves nothing behind when the broker goes away.

    Args:
        app: made by make_app(..., publisher=True), or the embedded worker's.
    """

    def __init__(self, app: Celery) -> None:
        self._app = app
        with contextlib.closing(app.connection_for_write()) as connection:  # not connected yet
            self._broker_errors: tuple[type[Exception], ...] = (
                OperationalError,
                OSError,
                *connection.connection_errors,
                *connection.channel_errors,
            )

    def publish(self, scan_id: str, queue: str = SMALL_QUEUE) -> None:
        """Send the message.

        Raises:
            UnavailableError: ("broker_unavailable") after a few seconds at most. Nothing is lost: the job table is
                the outbox, and the sweeper announces the scan later.
        """
        try:
            with self._app.connection_for_write() as connection:
                self._app.send_task(
                    SCAN_TASK, args=[scan_id], queue=queue, connection=connection, retry=False, ignore_result=True
                )
        except self._broker_errors as error:
            raise UnavailableError(
                "broker_unavailable", "The queue is away for the moment; the scan is announced when it is back."
            ) from error

    def ping(self) -> None:
        """Raises UnavailableError ("broker_unavailable") unless the broker answers within a few seconds."""
        try:
            with self._app.connection_for_write() as connection:
                connection.default_channel  # noqa: B018  # connects, and pings where the transport can
        except self._broker_errors as error:
            raise UnavailableError("broker_unavailable", "The queue is away for the moment.") from error


def publish_after_commit(service: JobService, dispatcher: Dispatcher, scan_id: str) -> bool:
    """Announce a scan whose row is committed, best effort; whether it worked. If not, the sweeper will do it."""
    try:
        dispatcher.publish(scan_id)
    except UnavailableError as error:
        log.warning("%s: not announced: %s", scan_id, error.detail)
        return False
    service.mark_published(scan_id)
    return True
