"""Uploads that arrive in several goes, as files beside the blobs.

The size of the file is the offset of the upload: there is no second record that could disagree with it after a crash.
The SHA-256 runs along in memory. Where it is lost (a restart, another process wrote), what is on the disk is hashed
again before the next byte is taken: hashlib cannot save its state, and a saved state would vouch for bytes that a
power cut may have taken.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from core.errors import InvalidInputError, LockedError, NotFoundError, TooLargeError
from core.storage.files import BLOB_MODE, install, raise_full
from core.storage.protocol import Blob, Buffer

_CHUNK = 1024 * 1024
_RESERVE_CHECK_BYTES = 64 * 1024 * 1024
_MAX_HASHES = 512
_NAME = re.compile(r"[a-z0-9_]{1,64}")


class LocalPartials:
    """All unfinished uploads of a LocalBlobStore.

    Args:
        folder: where they are; on the file system of the blobs; made if absent.
        temp_dir: for the moment between complete and stored.
        file_of: where a blob is or would be.
        check_reserve: raises StorageFullError if there is too little free space.
    """

    def __init__(
        self, folder: Path, temp_dir: Path, file_of: Callable[[str], Path], check_reserve: Callable[[], None]
    ) -> None:
        self._folder, self.temp_dir = folder, temp_dir
        self.file_of, self.check_reserve = file_of, check_reserve
        self._hashes: OrderedDict[str, tuple[int, Any]] = OrderedDict()
        self._lock = threading.Lock()
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def open(self, name: str, length: int) -> "LocalPartialBlob":
        """See BlobStore.partial."""
        return LocalPartialBlob(self, name, length)

    def path(self, name: str) -> Path:
        """Where its bytes are. Raises InvalidInputError for what could lead elsewhere."""
        if not _NAME.fullmatch(name):
            raise InvalidInputError("invalid_name", "This cannot be the name of an upload.")
        return self._folder / name

    def size(self, name: str) -> int:
        """Bytes that are there; 0 if none ever arrived."""
        try:
            return self.path(name).lstat().st_size
        except FileNotFoundError:
            return 0

    def names(self, changed_before: float) -> Iterator[str]:
        """Those last written before that moment (epoch), in no order."""
        for file in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):  # finished meanwhile
                if file.lstat().st_mtime < changed_before:
                    yield file.name

    def take_hash(self, name: str) -> tuple[int, Any]:
        """(number of bytes, SHA-256 over them) as far as this process knows; what is behind them must be read."""
        with self._lock:
            return self._hashes.pop(name, None) or (0, hashlib.sha256())

    def keep_hash(self, name: str, size: int, running: Any) -> None:
        """Bytes once kept never change, so that this stays true however many others write behind them."""
        with self._lock:
            self._hashes[name] = (size, running)
            while len(self._hashes) > _MAX_HASHES:
                self._hashes.popitem(last=False)


class LocalPartialBlob:
    """See PartialBlob. Made by LocalPartials.open; the lock (flock) ends with the process, whatever ends it."""

    def __init__(self, partials: LocalPartials, name: str, length: int) -> None:
        self._partials, self._name, self._length = partials, name, length
        self._path = partials.path(name)
        self._fd: int | None = _open(self._path)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(self._fd)
        except BlockingIOError:
            os.close(self._fd)
            raise LockedError(
                "upload_locked",
                "Another request is writing to this upload.",
                "Wait for it to end, ask for the offset with HEAD, and go on from there.",
            ) from None
        if found.st_nlink == 0:  # removed between open and flock
            os.close(self._fd)
            raise NotFoundError("upload_not_found", "There is no such upload.")
        self._size = found.st_size
        self._hashed, self._hash = partials.take_hash(name)
        self._unchecked = 0
        self._written = False

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: Buffer) -> None:
        fd = self._open_fd()
        view = memoryview(data).cast("B")
        if self._size + len(view) > self._length:
            raise TooLargeError("too_large", f"More than the {self._length} bytes announced.")
        self._catch_up(fd)
        self._unchecked += len(view)
        if not self._written or self._unchecked >= _RESERVE_CHECK_BYTES:
            self._partials.check_reserve()
            self._unchecked = 0
        try:
            while view:
                count = os.pwrite(fd, view, self._size)
                self._written = True
                self._hash.update(view[:count])
                self._size += count
                self._hashed = self._size
                view = view[count:]
        except OSError as error:
            raise_full(error)

    def rollback(self, size: int) -> None:
        if not 0 <= size <= self._size:
            raise ValueError("there is nothing to go back to")
        if size < self._size:
            os.ftruncate(self._open_fd(), size)
            self._size, self._hashed, self._hash = size, 0, hashlib.sha256()

    def commit(self, expected_sha256: str | None = None) -> Blob:
        fd = self._open_fd()
        if self._size != self._length:
            raise ValueError("the upload is not complete")
        self._catch_up(fd)
        digest: str = self._hash.hexdigest()
        if expected_sha256 is not None and digest != expected_sha256:
            self.discard()
            raise InvalidInputError(
                "digest_mismatch",
                f"The bytes received have the SHA-256 {digest}, not the one announced.",
                "Check the file and send it again.",
            )
        link = self._partials.temp_dir / secrets.token_hex(16)
        try:
            os.fchmod(fd, BLOB_MODE)
            os.utime(fd)  # stored now, whenever its last byte came: nobody takes it for a left-over
            os.fsync(fd)
            # A second name, so that the bytes are still here if whoever registers the blob fails.
            os.link(self._path, link)
            install(link, self._partials.file_of(digest))
        except OSError as error:
            link.unlink(missing_ok=True)
            raise_full(error)
        return Blob(digest, self._size)

    def discard(self) -> None:
        self._path.unlink(missing_ok=True)
        self._written = False
        self._size = 0
        self._close()

    def close(self) -> None:
        """Make what was written durable, keep the running hash, and let others write. Repeating it does nothing."""
        if self._fd is None:
            return
        try:
            if self._written:
                os.fsync(self._fd)
        except OSError as error:
            raise_full(error)
        finally:
            self._partials.keep_hash(self._name, self._hashed, self._hash)
            self._close()

    def _close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError("the upload is closed")
        return self._fd

    def _catch_up(self, fd: int) -> None:
        """Hash what is on the disk and was not hashed by this process."""
        while self._hashed < self._size:
            block = os.pread(fd, min(_CHUNK, self._size - self._hashed), self._hashed)
            if not block:
                raise OSError("the upload became shorter while it was locked")
            self._hash.update(block)
            self._hashed += len(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _open(path: Path) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_RDWR | os.O_CREAT, 0o600)
    except PermissionError:  # complete, and stored under its digest as well: nobody may write to it
        return os.open(path, flags | os.O_RDONLY)
    except OSError as error:
        raise_full(error)
