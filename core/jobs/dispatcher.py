"""How a worker hears of a queued scan. The message is a doorbell: losing or repeating one is harmless."""

from typing import Final, Protocol

SMALL_QUEUE: Final = "scan.small"


class Dispatcher(Protocol):
    """Rings the doorbell."""

    def publish(self, scan_id: str, queue: str = SMALL_QUEUE) -> None:
        """Announce `scan_id` to the workers of `queue`.

        Raises:
            UnavailableError: the broker is away. The scan is announced later by the sweeper.
        """
