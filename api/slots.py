"""Work that only few requests may do at a time in one process."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import CanceledError, UnavailableError
from worker.transfer import Halted


class Slots:
    """Who finds none free is turned away at once: a request that waits would hold its thread.

    Args:
        count: how many at a time.
        code: of the problem if none is free.
        doing: completes "<count> ... already.", such as "models are being looked at".
    """

    def __init__(self, count: int, code: str, doing: str) -> None:
        self.count, self._code, self._doing = count, code, doing
        self._free = threading.BoundedSemaphore(count)

    @contextmanager
    def one(self) -> Iterator[None]:
        """Hold a slot; work that stops because the server does is answered as such.

        Raises:
            UnavailableError: none is free, or `server_stopping`.
        """
        if not self._free.acquire(blocking=False):
            raise UnavailableError(self._code, f"{self.count} {self._doing} already.", "Try again in some seconds.")
        try:
            yield
        except (Halted, CanceledError):
            raise UnavailableError("server_stopping", "The server is about to stop.", "Try again later.") from None
        finally:
            self._free.release()
