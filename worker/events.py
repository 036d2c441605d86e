"""Event lines of the children: what is accepted from a process that has met hostile bytes."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from core.domain import Stage

Event = Mapping[str, Any]
OnEvent = Callable[[Event], None]

MAX_LINE_BYTES = 64 * 1024
MAX_EVENTS = 20_000
MAX_MESSAGE_CHARS = 2_000


def clean_text(text: str, limit: int = MAX_MESSAGE_CHARS) -> str:
    """`text` without characters that control a terminal or a log, at most `limit` characters long."""
    return "".join(c if c.isprintable() else " " for c in text[:limit]).strip()


def parse_event(line: bytes) -> Event | None:
    """The event a line stands for (see core.context), rebuilt from checked parts; None if it is none."""
    try:
        value = json.loads(line)
        kind = value["event"]
        if kind == "stage":
            return {"event": "stage", "stage": Stage(value["stage"]).value}
        if kind == "progress":
            fraction = float(value["fraction"])
            stage = value["stage"]
            if not math.isfinite(fraction):
                return None
            return {
                "event": "progress",
                "stage": None if stage is None else Stage(stage).value,
                "fraction": min(max(fraction, 0.0), 1.0),
            }
        if kind == "note" and isinstance(value["message"], str):
            return {"event": "note", "message": clean_text(value["message"])}
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return None


class EventLines:
    """Cuts a byte stream into lines and hands on the events in it.

    Lines that are no events (a library that prints, a broken or hostile child) are dropped; the first one is
    reported as a note. Over-long lines and floods are dropped without being kept in memory.
    """

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._buffer = bytearray()
        self._overlong = False
        self._events = 0
        self.malformed = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._extend(line)
            self._finish_line()
        self._extend(rest)

    def close(self) -> None:
        """The stream has ended; a last line without a newline was cut off and does not count."""
        self._buffer.clear()

    def _extend(self, part: bytes) -> None:
        if len(self._buffer) + len(part) > MAX_LINE_BYTES:
            self._overlong = True
            self._buffer.clear()
        if not self._overlong:
            self._buffer += part

    def _finish_line(self) -> None:
        line, overlong = bytes(self._buffer), self._overlong
        self._buffer.clear()
        self._overlong = False
        if not overlong and not line.strip():
            return
        event = None if overlong else parse_event(line)
        if event is None:
            self.malformed += 1
            if self.malformed > 1:
                return
            event = {"event": "note", "message": "The scanning process wrote something that is no event; ignored."}
        self._events += 1
        if self._events <= MAX_EVENTS:
            self._on_event(event)
