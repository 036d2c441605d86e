"""What every blob store must do with uploads that arrive in several goes; a new back end joins by one more entry."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import InvalidInputError, LockedError, StorageFullError, TooLargeError
from core.storage import Blob, BlobStore, LocalBlobStore
from tests.support.processes import ROOT

STORES: dict[str, Callable[[Path], BlobStore]] = {"local": lambda folder: LocalBlobStore(folder / "blobs")}

DATA = os.urandom(3_000_000)
SHA = hashlib.sha256(DATA).hexdigest()
NAME = "upload_1"


@pytest.fixture(params=STORES)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], BlobStore]:
    """Called again, it is the same store after a restart."""
    return lambda: STORES[request.param](tmp_path)


def append(store: BlobStore, data: bytes, length: int = len(DATA)) -> int:
    with store.partial(NAME, length) as partial:
        partial.write(data)
        return partial.size


def names(store: BlobStore) -> list[str]:
    return list(store.partial_names(-60))


def test_goes_add_up(make: Callable[[], BlobStore]) -> None:
    store = make()
    assert store.partial_size(NAME) == 0
    for start in range(0, len(DATA), 700_000):
        assert append(store, DATA[start : start + 700_000]) == min(start + 700_000, len(DATA))
        assert store.partial_size(NAME) == min(start + 700_000, len(DATA))
    with store.partial(NAME, len(DATA)) as partial:
        assert partial.commit(SHA) == Blob(SHA, len(DATA))
        partial.discard()
    assert store.path(SHA).read_bytes() == DATA
    assert names(store) == []


def test_the_digest_is_right_after_restarts(make: Callable[[], BlobStore]) -> None:
    for start in range(0, len(DATA), 1_000_000):
        append(make(), DATA[start : start + 1_000_000])
    with make().partial(NAME, len(DATA)) as partial:
        assert partial.commit() == Blob(SHA, len(DATA))


def test_what_another_process_wrote_is_hashed_too(make: Callable[[], BlobStore]) -> None:
    here, there = make(), make()
    append(here, DATA[:1000])
    append(there, DATA[1000:2000])
    append(here, DATA[2000:])
    with there.partial(NAME, len(DATA)) as partial:
        assert partial.commit(SHA).size_bytes == len(DATA)


def test_other_bytes_than_announced_leave_nothing(make: Callable[[], BlobStore]) -> None:
    store = make()
    append(store, b"x" * 10, 10)
    with store.partial(NAME, 10) as partial, pytest.raises(InvalidInputError, match="digest_mismatch"):
        partial.commit(SHA)
    assert names(store) == []
    assert list(store.iter()) == []


def test_not_one_byte_more_than_announced(make: Callable[[], BlobStore]) -> None:
    store = make()
    with store.partial(NAME, 10) as partial:
        partial.write(b"12345678")
        with pytest.raises(TooLargeError):
            partial.write(b"901")
        assert partial.size == 8
    assert store.partial_size(NAME) == 8


def test_an_incomplete_upload_is_no_blob(make: Callable[[], BlobStore]) -> None:
    with make().partial(NAME, 10) as partial, pytest.raises(ValueError, match="not complete"):
        partial.commit()


def test_the_bytes_outlive_the_commit_until_they_are_discarded(make: Callable[[], BlobStore]) -> None:
    """Whoever registers the blob may fail and try again, also after the blob was collected meanwhile."""
    append(make(), DATA)
    with make().partial(NAME, len(DATA)) as partial:
        partial.commit(SHA)
    store = make()
    assert store.delete(SHA)
    with store.partial(NAME, len(DATA)) as partial:
        assert partial.size == len(DATA)
        with pytest.raises(TooLargeError):
            partial.write(b"x")
        partial.commit(SHA)
        partial.discard()
    assert store.path(SHA).read_bytes() == DATA


def test_going_back(make: Callable[[], BlobStore]) -> None:
    store = make()
    append(store, DATA[:100])
    with store.partial(NAME, len(DATA)) as partial:
        partial.write(b"wrong")
        partial.rollback(100)
        assert partial.size == 100
        partial.write(DATA[100:])
        assert partial.commit(SHA).sha256 == SHA


def test_one_writer_at_a_time(make: Callable[[], BlobStore]) -> None:
    store = make()
    with store.partial(NAME, 10) as partial:
        for other in (store, make()):
            with pytest.raises(LockedError):
                other.partial(NAME, 10)
        partial.write(b"12")
    assert append(store, b"34", 10) == 4


def test_a_killed_writer_leaves_its_bytes_and_no_lock(make: Callable[[], BlobStore], tmp_path: Path) -> None:
    code = (
        "import os, pathlib, signal\n"
        "from core.storage import LocalBlobStore\n"
        f"partial = LocalBlobStore(pathlib.Path({str(tmp_path)!r}) / 'blobs').partial({NAME!r}, 100)\n"
        "partial.write(b'1234567')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60).returncode == -9
    assert append(make(), b"8", 100) == 8


def test_a_full_disk_counts_what_was_written(make: Callable[[], BlobStore], monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.pwrite

    def nearly_full(fd: int, data: bytes, offset: int) -> int:
        if offset >= 4:
            raise OSError(28, "No space left on device")
        return real(fd, bytes(data)[: 4 - offset], offset)

    store = make()
    monkeypatch.setattr(os, "pwrite", nearly_full)
    with store.partial(NAME, len(DATA)) as partial:
        with pytest.raises(StorageFullError):
            partial.write(DATA)
        assert partial.size == 4
    monkeypatch.undo()
    assert store.partial_size(NAME) == 4
    append(store, DATA[4:])
    with store.partial(NAME, len(DATA)) as partial:
        assert partial.commit(SHA).sha256 == SHA


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", "a.b", "a\0b", "x" * 65])
def test_names_lead_nowhere_else(make: Callable[[], BlobStore], name: str) -> None:
    with pytest.raises(InvalidInputError):
        make().partial(name, 10)
