"""The progress bar of `assay scan`, on standard error."""

from collections.abc import Callable, Mapping
from threading import Event
from types import TracebackType
from typing import Any, Self

from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from api.commands.common import err
from core.domain import PurifyMode
from core.errors import CanceledError
from worker.progress import ProgressTracker


class ScanProgress:
    """One bar for the whole scan on a terminal; elsewhere one line per stage.

    Fed with the engine's events (a scan here) or with scans as the server shows them.
    """

    def __init__(self, purify: PurifyMode) -> None:
        self._tracker = ProgressTracker(purify)
        self._stage = ""
        self._interactive = err().is_terminal
        self._bar = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            console=err(),
            transient=True,
            disable=not self._interactive,
        )
        self._task = self._bar.add_task("starting", total=1.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def on_event(self, event: Mapping[str, Any]) -> None:
        """An event of core.context."""
        if event["event"] == "note":
            err().print(event["message"], style="dim", markup=False)
            return
        self._tracker.update(event)
        self._show(self._tracker.stage.value, self._tracker.progress)

    def on_scan(self, scan: Mapping[str, Any]) -> None:
        """A scan as the API shows it."""
        self._show(scan["stage"] or scan["state"], scan["progress"])

    def uploading(self, what: str, stop: Event) -> Callable[[int, int], None]:
        """A callback (sent, total) for the upload of `what`; it raises CanceledError once `stop` is set."""

        def on_bytes(sent: int, total: int) -> None:
            if stop.is_set():
                raise CanceledError
            self._show(f"uploading {what}", sent / max(total, 1))

        return on_bytes

    def _show(self, stage: str, fraction: float) -> None:
        self._bar.update(self._task, description=stage, completed=fraction)
        if stage != self._stage:
            self._stage = stage
            if not self._interactive:
                err().print(stage, markup=False)
