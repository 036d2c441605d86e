"""The Celery application: every setting, each as it was tried. A message is a doorbell: it holds one scan id.

Why this is so little trust in the broker: late acknowledgement makes Redis deliver a long task again once the
visibility timeout has passed, and early acknowledgement loses it with the worker. The job table decides who works
on what; delivery may be late, doubled or lost.
"""

from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.worker import WorkController, state

from core.jobs.dispatcher import SMALL_QUEUE
from worker.memory import MEMORY_URL

SCAN_TASK = "assay.scan"
QUEUES = (SMALL_QUEUE, "scan.large", "ops")
VISIBILITY_MARGIN_S = 1_800
PUBLISH_TIMEOUT_S = 2.0


def make_app(broker_url: str | None, *, deadline_s: float = 7_200, publisher: bool = False) -> Celery:
    """A configured application without tasks (see worker.tasks.register).

    Args:
        broker_url: redis://...; None: the in-process transport of the embedded worker.
        deadline_s: longest attempt; the broker must not deliver again before it is over.
        publisher: for a process that only sends: give up within a few seconds when the broker is away.
    """
    app = Celery("assay", broker=broker_url or MEMORY_URL, set_as_current=False)
    visibility_timeout = int(deadline_s) + VISIBILITY_MARGIN_S
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        result_accept_content=["json"],
        task_ignore_result=True,
        task_store_errors_even_if_ignored=False,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        worker_pool="threads",
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_redirect_stdouts=False,
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        task_create_missing_queues=False,
        task_default_queue=SMALL_QUEUE,
        task_queues={name: {} for name in QUEUES},
        broker_connection_retry_on_startup=True,
        visibility_timeout=visibility_timeout,
        enable_utc=True,
    )
    if broker_url is None:
        app.conf.broker_transport_options = {"polling_interval": 0.05}
    else:
        app.conf.broker_transport_options = _redis_options(visibility_timeout, publisher=publisher)
        app.conf.result_backend_transport_options = {"visibility_timeout": visibility_timeout}
    if publisher:
        app.conf.broker_connection_timeout = PUBLISH_TIMEOUT_S
        app.conf.task_publish_retry = False
    return app


def make_controller(app: Celery, name: str, ready: Callable[[], object]) -> WorkController:
    """A worker for `app` that takes one message at a time in a thread; its `start` blocks until request_stop().

    One at a time per process: Celery's shutdown flag and its task lookup are global.

    Args:
        name: of this worker among all at the broker.
        ready: called when messages are being taken.
    """
    app.set_default()  # the pool's threads look tasks up in the default application
    state.should_stop = None
    return app.WorkController(
        pool_cls="threads",
        concurrency=1,
        hostname=name.replace(":", "."),
        without_mingle=True,
        without_gossip=True,
        without_heartbeat=True,
        ready_callback=lambda _: ready(),
    )


def request_stop() -> None:
    """Make the running controller take no more messages and return when the current one is done. Signal-safe."""
    state.should_stop = 0


def _redis_options(visibility_timeout: int, *, publisher: bool) -> dict[str, Any]:
    options: dict[str, Any] = {
        "visibility_timeout": visibility_timeout,
        "queue_order_strategy": "priority",
        "socket_keepalive": True,
        "health_check_interval": 25,
        "global_keyprefix": "assay:",
    }
    if publisher:
        options |= {
            "socket_connect_timeout": PUBLISH_TIMEOUT_S,
            "socket_timeout": PUBLISH_TIMEOUT_S,
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0,
            "interval_max": 0,
            "retry_on_timeout": False,
        }
    return options
