"""What a running scan needs from whoever runs it: somewhere to report to, and a way to be stopped."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from core.domain import Stage
from core.errors import CanceledError

Emit = Callable[[Mapping[str, Any]], None]


def _ignore(_: Mapping[str, Any]) -> None:
    pass


def _never() -> bool:
    return False


@dataclass(slots=True)
class RunContext:
    """Progress out, cancellation in.

    Events are flat JSON objects: {"event": "stage", "stage": ...}, {"event": "progress", "stage": ...,
    "fraction": 0..1 within the stage}, {"event": "note", "message": ...}.

    Args:
        emit: called with each event; must be cheap.
        should_stop: asked at every optimisation step.
        threads: CPU threads for work that can be done side by side.
    """

    emit: Emit = _ignore
    should_stop: Callable[[], bool] = _never
    threads: int = 1
    _stage: Stage | None = field(default=None, init=False)
    _last: float = field(default=-1.0, init=False)

    def enter(self, stage: Stage) -> None:
        """Begin `stage`."""
        self.checkpoint()
        self._stage, self._last = stage, -1.0
        self.emit({"event": "stage", "stage": stage.value})

    def progress(self, fraction: float) -> None:
        """Report how much of the current stage is done; also a point where a scan can stop.

        Reports that move by less than one percent are dropped.
        """
        self.checkpoint()
        fraction = min(max(fraction, 0.0), 1.0)
        if fraction - self._last >= 0.01 or (fraction == 1.0 and self._last < 1.0):
            self._last = fraction
            stage = self._stage.value if self._stage else None
            self.emit({"event": "progress", "stage": stage, "fraction": round(fraction, 4)})

    def part(self, low: float, high: float) -> "RunContext":
        """A context for one part of the current stage: its progress 0..1 becomes low..high of this one's.

        It stops when this one stops; its notes are this one's notes.
        """

        def emit(event: Mapping[str, Any]) -> None:
            if event["event"] == "progress":
                self.progress(low + (high - low) * float(event["fraction"]))
            elif event["event"] == "note":
                self.emit(event)

        return RunContext(emit, self.should_stop, self.threads)

    def note(self, message: str) -> None:
        """Say something a user may want to read."""
        self.emit({"event": "note", "message": message})

    def checkpoint(self) -> None:
        """Raises CanceledError if the scan should stop now."""
        if self.should_stop():
            raise CanceledError()
