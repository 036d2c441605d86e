"""One number for how far a scan is, and a guess at how long it will take."""

import threading
import time
from collections.abc import Callable

from core.domain import PurifyMode, Stage
from worker.events import Event

# Shares of the wall time, measured on the small examples with purification.
_WEIGHTS: dict[Stage, float] = {
    Stage.FETCHING: 0.01,
    Stage.LOADING: 0.09,
    Stage.INVERTING: 0.35,
    Stage.DETECTING: 0.05,
    Stage.UNLEARNING: 0.30,
    Stage.VERIFYING: 0.18,
    Stage.PUBLISHING: 0.02,
}
_FETCHING_FROM_HUB = 0.20
_MIN_PROGRESS = 0.05  # below this, or before _MIN_ELAPSED_S, an estimate says nothing
_MIN_ELAPSED_S = 2.0


class ProgressTracker:
    """Overall progress from the events of the children. Thread-safe.

    Args:
        purify: `never` takes the purifying stages out of the sum.
        fetches: files come from a Hub first, which takes a while.
        clock: monotonic seconds.
    """

    def __init__(
        self, purify: PurifyMode, clock: Callable[[], float] = time.monotonic, *, fetches: bool = False
    ) -> None:
        skipped = {Stage.UNLEARNING, Stage.VERIFYING} if purify is PurifyMode.NEVER else set[Stage]()
        weights = {**_WEIGHTS, Stage.FETCHING: _FETCHING_FROM_HUB} if fetches else _WEIGHTS
        total = sum(weight for stage, weight in weights.items() if stage not in skipped)
        self._share = {stage: 0.0 if stage in skipped else weight / total for stage, weight in weights.items()}
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._stage = Stage.FETCHING
        self._progress = 0.0

    def update(self, event: Event) -> None:
        """Take a "stage" or "progress" event; progress never goes back."""
        if event["event"] not in ("stage", "progress") or event["stage"] is None:
            return
        stage = Stage(event["stage"])
        fraction = float(event.get("fraction", 0.0))
        before = sum(share for other, share in self._share.items() if _order(other) < _order(stage))
        with self._lock:
            self._stage = stage
            self._progress = max(self._progress, min(before + fraction * self._share[stage], 1.0))

    @property
    def stage(self) -> Stage:
        with self._lock:
            return self._stage

    @property
    def progress(self) -> float:
        """Fraction of the whole, in [0, 1]; never falls."""
        with self._lock:
            return self._progress

    @property
    def eta_s(self) -> float | None:
        """Seconds still to go if the rest runs like the part so far; None while it is too early to say."""
        elapsed = self._clock() - self._started
        progress = self.progress
        if progress < _MIN_PROGRESS or elapsed < _MIN_ELAPSED_S:
            return None
        return elapsed * (1.0 - progress) / progress


def _order(stage: Stage) -> int:
    return list(Stage).index(stage)
