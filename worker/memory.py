"""Kombu's in-memory transport, able to stop quickly.

Celery's loop looks for a shutdown only between two waits for messages, and each wait lasts up to two seconds.
"""

from typing import Any

from kombu.transport import TRANSPORT_ALIASES, memory

MEMORY_URL = "assay-memory://localhost/"

_MAX_WAIT_S = 0.1


class Transport(memory.Transport):
    """See kombu.transport.memory: one set of queues per process."""

    def drain_events(self, connection: Any, timeout: Any = None, **options: Any) -> Any:
        """Hand on one message. Raises TimeoutError if there is none for _MAX_WAIT_S, whatever `timeout` says."""
        return super().drain_events(connection, timeout=_MAX_WAIT_S, **options)  # type: ignore[no-untyped-call]


TRANSPORT_ALIASES["assay-memory"] = "worker.memory:Transport"
