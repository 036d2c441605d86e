"""The child that looks through a reference set, as a real process: what it says, and how it may end."""

import sys
import time
from pathlib import Path

import pytest

from core.errors import (
    AssayError,
    CanceledError,
    EngineError,
    InvalidInputError,
    UnavailableError,
    UnsafeError,
    UnsupportedError,
)
from tests.hostile.test_images import CASES
from tests.support.archives import parquet_of, tar_of
from tests.support.checkpoints import png, reference_zip, zip_of
from worker.children import reference_child
from worker.reference_sets import check_reference_set


def check(path: Path, tmp_path: Path, command: tuple[str, ...] | None = None, **options: object) -> object:
    try:
        return check_reference_set(path, tmp_path / "work", command or reference_child(), **options)  # type: ignore[arg-type]
    finally:
        assert list((tmp_path / "work").iterdir()) == []


def pretending(body: str) -> tuple[str, ...]:
    """A child that does `body` instead; `job` is its folder."""
    return (sys.executable, "-c", f"import json, os, pathlib, sys, time\njob = pathlib.Path(sys.argv[1])\n{body}")


def saying(outcome: str) -> tuple[str, ...]:
    return pretending(f"(job / 'outcome.json').write_text({outcome!r})")


def test_every_hostile_image_at_once(tmp_path: Path) -> None:
    files = {f"good{i}.png": png(i) for i in range(10)}
    names = {f"{number:03}-{name}": code for number, (name, _, code, _) in enumerate(CASES.values())}
    files |= dict(zip(names, (make() for _, make, _, _ in CASES.values()), strict=True))
    began = time.monotonic()
    facts = check_reference_set(zip_of(files, tmp_path / "r.zip"), tmp_path / "work", reference_child())
    assert time.monotonic() - began < 60
    assert facts.images_used == 10
    assert {item.file: item.code for item in facts.rejected} == names


def test_captions_in_a_tar_archive_and_in_a_parquet_file(tmp_path: Path) -> None:
    """In the sandbox, where Arrow has to live with what is left of the system."""
    pairs = {f"{i}.png": png(i) for i in range(12)} | {f"{i}.txt": b"one of %d" % (i % 4) for i in range(12)}
    columns = {"image": [{"bytes": png(i)} for i in range(12)], "text": [f"one of {i % 4}" for i in range(12)]}
    for path, images in ((tar_of(pairs, tmp_path / "r.tar"), 12), (parquet_of(columns, tmp_path / "r.parquet"), 12)):
        facts = check_reference_set(path, tmp_path / "work", reference_child())
        assert (facts.images, facts.images_used, facts.captioned, facts.captions_distinct) == (images, 12, 12, 4)
        assert facts.captions_source == "files beside the images"


@pytest.mark.parametrize(
    ("content", "kind", "code"),
    [
        (b"no zip", UnsupportedError, "unsupported_reference_format"),
        (b"PK\x03\x04cut", InvalidInputError, "invalid_archive"),
    ],
)
def test_refusals_keep_their_codes(content: bytes, kind: type[AssayError], code: str, tmp_path: Path) -> None:
    (tmp_path / "r.zip").write_bytes(content)
    with pytest.raises(kind, match=code):
        check(tmp_path / "r.zip", tmp_path)


def test_a_bomb_is_unsafe(tmp_path: Path) -> None:
    with pytest.raises(UnsafeError, match="unsafe_archive_bomb"):
        check(zip_of({"a.png": bytes(30 << 20)}, tmp_path / "r.zip"), tmp_path)


@pytest.mark.parametrize(
    ("command", "kind", "code"),
    [
        (saying('{"status": "ok"}'), EngineError, "invalid_result"),
        (pretending("(job / 'facts.json').write_text('{}')\n(job / 'outcome.json').write_text('{\"status\": \"ok\"}')"),
         EngineError, "invalid_result"),
        (saying("nonsense"), EngineError, "worker_child_died"),
        (pretending("os.kill(os.getpid(), 11)"), UnavailableError, "worker_child_died"),
        (pretending("sys.exit(3)"), EngineError, "worker_child_died"),
        (saying('{"status": "failed", "error": {"code": "storage_full", "detail": "x", "retryable": true}}'),
         UnavailableError, "storage_full"),
        (saying('{"status": "failed", "error": {"code": "internal_error", "detail": "x"}}'), EngineError,
         "internal_error"),
    ],
)  # fmt: skip
def test_ends_of_the_child(command: tuple[str, ...], kind: type[AssayError], code: str, tmp_path: Path) -> None:
    with pytest.raises(kind, match=code):
        check(reference_zip(tmp_path / "r.zip"), tmp_path, command)


def test_it_may_not_take_for_ever(tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(InvalidInputError, match="reference_timed_out"):
        check(reference_zip(tmp_path / "r.zip"), tmp_path, pretending("time.sleep(60)"), limit_s=0.3)
    assert time.monotonic() - began < 15


def test_it_can_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(CanceledError):
        check(reference_zip(tmp_path / "r.zip"), tmp_path, pretending("time.sleep(60)"), should_stop=lambda: True)
