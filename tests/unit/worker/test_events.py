import json

import pytest

from worker.events import MAX_EVENTS, MAX_LINE_BYTES, EventLines, parse_event


def line(**event: object) -> bytes:
    return json.dumps(event).encode()


@pytest.mark.parametrize(
    "event",
    [
        {"event": "stage", "stage": "inverting"},
        {"event": "progress", "stage": "loading", "fraction": 0.25},
        {"event": "progress", "stage": None, "fraction": 1.0},
        {"event": "note", "message": "hello"},
    ],
)
def test_events_of_the_protocol_pass(event: dict[str, object]) -> None:
    assert parse_event(line(**event)) == event


@pytest.mark.parametrize(
    "junk",
    [
        b"",
        b"Downloading: 100%",
        b"[]",
        b"3",
        b"null",
        b'{"event": "stage"}',
        b'{"event": "stage", "stage": "sleeping"}',
        b'{"event": "progress", "stage": "loading", "fraction": NaN}',
        b'{"event": "progress", "stage": "loading", "fraction": "x"}',
        b'{"event": "progress", "stage": ["loading"], "fraction": 1}',
        b'{"event": "note", "message": 7}',
        b'{"event": "verdict", "verdict": "clean"}',
        b"\xff\xfe\x00",
        b"[" * 60_000,
    ],
)
def test_anything_else_is_no_event(junk: bytes) -> None:
    assert parse_event(junk) is None


def test_values_are_bounded_and_texts_made_harmless() -> None:
    assert parse_event(line(event="progress", stage="loading", fraction=7))["fraction"] == 1.0
    assert parse_event(line(event="note", message="a\x1b[2Jb\nc\u202ed")) == {"event": "note", "message": "a [2Jb c d"}
    assert len(parse_event(line(event="note", message="x" * 50_000))["message"]) == 2_000
    assert parse_event(line(event="stage", stage="loading", more="ignored")) == {"event": "stage", "stage": "loading"}


def test_lines_are_put_together_from_any_pieces() -> None:
    seen: list[object] = []
    lines = EventLines(seen.append)
    stream = line(event="stage", stage="loading") + b"\n" + line(event="note", message="x") + b"\n"
    for i in range(len(stream)):
        lines.feed(stream[i : i + 1])
    assert [e["event"] for e in seen] == ["stage", "note"]
    assert lines.malformed == 0


def test_a_line_cut_off_at_the_end_does_not_count() -> None:
    seen: list[object] = []
    lines = EventLines(seen.append)
    lines.feed(line(event="stage", stage="loading"))
    lines.close()
    lines.feed(b"\n")
    assert seen == []


def test_malformed_lines_are_reported_once_and_the_rest_goes_on() -> None:
    seen: list[object] = []
    lines = EventLines(seen.append)
    lines.feed(b"junk\nmore junk\n" + line(event="stage", stage="loading") + b"\n")
    assert [e["event"] for e in seen] == ["note", "stage"]
    assert lines.malformed == 2


def test_an_endless_line_is_not_kept() -> None:
    seen: list[object] = []
    lines = EventLines(seen.append)
    for _ in range(40):
        lines.feed(b"x" * (MAX_LINE_BYTES // 10))
        assert len(lines._buffer) <= MAX_LINE_BYTES
    lines.feed(b"\n" + line(event="stage", stage="loading") + b"\n")
    assert [e["event"] for e in seen] == ["note", "stage"]


def test_a_flood_is_cut_off() -> None:
    seen: list[object] = []
    lines = EventLines(seen.append)
    lines.feed((line(event="note", message="x") + b"\n") * (MAX_EVENTS + 10))
    assert len(seen) == MAX_EVENTS
