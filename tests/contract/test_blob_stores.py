"""What every blob store must do; a new back end joins by one more entry in STORES."""

import contextlib
import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from core.errors import IntegrityError, InvalidInputError, NotFoundError, StorageFullError, TooLargeError
from core.storage import Blob, BlobStore, BlobWriter, LocalBlobStore

STORES: dict[str, Callable[[Path], BlobStore]] = {"local": lambda folder: LocalBlobStore(folder / "blobs")}

DATA = b"some bytes" * 1000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    return STORES[request.param](tmp_path)


def put(store: BlobStore, data: bytes = DATA) -> Blob:
    with store.writer() as writer:
        writer.write(data)
        return writer.commit()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_written_in_pieces_and_read_back(store: BlobStore) -> None:
    with store.writer() as writer:
        for piece in (DATA[:7], bytearray(DATA[7:5000]), memoryview(DATA)[5000:]):
            writer.write(piece)
        assert (writer.sha256, writer.size) == (SHA, len(DATA))
        assert not store.exists(SHA)
        assert writer.commit(SHA) == Blob(SHA, len(DATA))
    assert store.exists(SHA)
    assert store.size(SHA) == len(DATA)
    assert store.path(SHA).read_bytes() == DATA
    with store.open_verified(SHA) as file:
        assert file.read() == DATA


def test_empty_blob(store: BlobStore) -> None:
    blob = put(store, b"")
    assert blob == Blob(hashlib.sha256(b"").hexdigest(), 0)
    assert store.open_verified(blob.sha256).read() == b""


def test_put_file(store: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(DATA * 300)
    blob = store.put_file(source)
    assert blob == Blob(hashlib.sha256(DATA * 300).hexdigest(), 300 * len(DATA))
    assert source.exists()


def test_uncommitted_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    with store.writer() as writer:
        writer.write(DATA)
    with contextlib.suppress(RuntimeError), store.writer() as writer:
        writer.write(DATA)
        raise RuntimeError
    assert list(store.iter()) == []
    assert files(tmp_path) == []


def test_wrong_digest_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    with store.writer() as writer:
        writer.write(DATA)
        with pytest.raises(InvalidInputError) as caught:
            writer.commit("0" * 64)
    assert caught.value.code == "digest_mismatch"
    assert not store.exists(SHA)
    assert files(tmp_path) == []


def test_one_byte_over_the_limit(store: BlobStore, tmp_path: Path) -> None:
    with store.writer(max_bytes=len(DATA)) as writer:
        writer.write(DATA)
        with pytest.raises(TooLargeError):
            writer.write(b"x")
        assert writer.size == len(DATA)
    assert files(tmp_path) == []
    with store.writer(max_bytes=len(DATA)) as writer:
        writer.write(DATA)
        writer.commit()
    assert store.exists(SHA)


def test_closed_writer_cannot_go_on(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(DATA)
        writer.commit()
        with pytest.raises(ValueError, match="closed"):
            writer.write(b"more")
        with pytest.raises(ValueError, match="closed"):
            writer.commit()
    assert store.open_verified(SHA).read() == DATA


def test_same_blob_from_many_writers_at_once(store: BlobStore, tmp_path: Path) -> None:
    barrier = threading.Barrier(8)

    def write(_: int) -> Blob:
        with store.writer() as writer:
            writer.write(DATA)
            barrier.wait()
            return writer.commit(SHA)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(write, range(8))) == {Blob(SHA, len(DATA))}
    assert list(store.iter()) == [Blob(SHA, len(DATA))]
    assert len(files(tmp_path)) == 1


def test_reader_never_sees_half_a_blob(store: BlobStore) -> None:
    """While the blob is replaced again and again, it is always whole."""
    put(store)
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            put(store)

    thread = threading.Thread(target=rewrite)
    thread.start()
    try:
        for _ in range(50):
            assert store.path(SHA).read_bytes() == DATA
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("harm", ["flip", "truncate", "append"])
def test_damage_is_found_before_a_byte_is_served_and_repaired_by_sending_again(store: BlobStore, harm: str) -> None:
    put(store)
    path = store.path(SHA)
    path.chmod(0o600)
    changed = {"flip": b"S" + DATA[1:], "truncate": DATA[:-1], "append": DATA + b"x"}[harm]
    path.write_bytes(changed)
    with pytest.raises(IntegrityError) as caught:
        store.open_verified(SHA)
    assert caught.value.code == "blob_corrupt"
    put(store)
    assert store.open_verified(SHA).read() == DATA


def test_link_in_place_of_a_blob_is_no_blob(store: BlobStore, tmp_path: Path) -> None:
    put(store)
    path, elsewhere = store.path(SHA), tmp_path / "elsewhere"
    elsewhere.write_bytes(DATA)
    path.unlink()
    path.symlink_to(elsewhere)
    assert not store.exists(SHA)
    for ask in (store.path, store.size, store.open_verified):
        with pytest.raises(NotFoundError):
            ask(SHA)


@pytest.mark.parametrize("ask", ["path", "size", "open_verified", "modified_at"])
def test_absent(store: BlobStore, ask: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        getattr(store, ask)(SHA)
    assert caught.value.code == "blob_not_found"
    assert not store.exists(SHA)
    assert store.delete(SHA) is False


@pytest.mark.parametrize("name", ["", "../../etc/passwd", SHA.upper(), SHA[:-1], SHA + "0", SHA + "\n", "g" * 64])
@pytest.mark.parametrize("ask", ["exists", "path", "size", "open_verified", "delete"])
def test_only_digests_are_names(store: BlobStore, ask: str, name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        getattr(store, ask)(name)
    assert caught.value.code == "invalid_digest"


def test_delete_and_iterate(store: BlobStore) -> None:
    blobs = {put(store, bytes([i])) for i in range(5)}
    assert set(store.iter()) == blobs
    gone = blobs.pop()
    assert store.delete(gone.sha256) is True
    assert set(store.iter()) == blobs


def test_only_old_temporary_files_are_collected(store: BlobStore) -> None:
    with store.writer() as writer:
        writer.write(DATA)
        assert store.collect_temp(older_than_s=60) == 0
        assert store.collect_temp(older_than_s=-1) == 1
    assert list(store.iter()) == []


def test_storing_again_makes_it_young(store: BlobStore) -> None:
    put(store)
    os.utime(store.path(SHA), (1, 1))
    assert store.modified_at(SHA) == 1
    put(store)
    assert store.modified_at(SHA) > 1


def test_probe_leaves_nothing(store: BlobStore, tmp_path: Path) -> None:
    store.probe()
    assert files(tmp_path) == []


def test_reserve_is_kept_free(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path / "blobs", reserve_bytes=1 << 60)
    for start in (store.writer, store.probe):
        with pytest.raises(StorageFullError):
            start()
    assert files(tmp_path) == []


def test_reserve_is_watched_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.storage.local._RESERVE_CHECK_BYTES", 1000)
    store = LocalBlobStore(tmp_path / "blobs")
    with store.writer() as writer:
        writer.write(b"x" * 999)
        store._reserve_bytes = 1 << 60
        with pytest.raises(StorageFullError):
            writer.write(b"x")
    assert files(tmp_path) == []


def test_full_disk_leaves_nothing_and_recovers(tmp_path: Path) -> None:
    """A real limit of the system, in a process of its own: RLIMIT_FSIZE gives EFBIG as a full disk gives ENOSPC."""
    script = f"""
import resource, signal, sys
from pathlib import Path
from core.errors import StorageFullError
from core.storage import LocalBlobStore
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = LocalBlobStore(Path({str(tmp_path / "blobs")!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    with store.writer() as writer:
        writer.write(b"x" * 10000)
except StorageFullError as error:
    assert error.code == "storage_full"
else:
    sys.exit("no error")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
with store.writer() as writer:
    writer.write(b"x" * 10000)
    writer.commit()
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert [path.stat().st_size for path in files(tmp_path)] == [10000]


def _write_and_commit(writer: BlobWriter) -> None:
    writer.write(DATA)
    writer.commit()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_no_room_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, "no room")

    store = LocalBlobStore(tmp_path / "blobs")
    with store.writer() as writer, monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(StorageFullError):
            _write_and_commit(writer)
    assert files(tmp_path) == []
    assert put(store) == Blob(SHA, len(DATA))


def test_blobs_are_private_and_read_only(tmp_path: Path) -> None:
    store = LocalBlobStore(tmp_path / "blobs")
    put(store)
    assert store.path(SHA).stat().st_mode & 0o777 == 0o440
    assert (tmp_path / "blobs" / "sha256").stat().st_mode & 0o077 == 0
