"""Blocking transfers that can be left at any moment: the work is done in a thread, the caller watches."""

import threading
from collections.abc import Callable

from worker.children import AskHalt, Halt

POLL_S = 0.2
#: How long a stopped transfer is waited for. One that is stuck in the network ends by itself, at its next time limit.
STOP_GRACE_S = 2.0


class Halted(Exception):
    """The work was left because of `halt`."""

    def __init__(self, halt: Halt) -> None:
        super().__init__(halt.value)
        self.halt = halt


def watched(work: Callable[[Callable[[], bool]], None], halt: AskHalt, on_tick: Callable[[], object]) -> None:
    """Do `work` in a thread until it ends or `halt` answers.

    Args:
        work: is given a function that says whether to stop, and raises what it likes.
        halt: asked several times a second, in the caller's thread.
        on_tick: called as often, in the caller's thread.

    Raises:
        Halted: `halt` answered. The thread may still be ending; it was told so.
    """
    stop = threading.Event()
    raised: list[BaseException] = []

    def run() -> None:
        try:
            work(stop.is_set)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=run, name="transfer", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(POLL_S)
            on_tick()
            reason = halt()
            if reason is not None and thread.is_alive():
                stop.set()
                thread.join(STOP_GRACE_S)
                raise Halted(reason)
    finally:
        stop.set()
    if raised:
        raise raised[0]
