"""Blobs as files of one local file system.

Layout under the root: `tmp/<random>` while being written, `partial/<name>` while an upload arrives in several goes,
`sha256/<2 digits>/<64 digits>` when complete. All are on one file system, so that a rename makes a blob appear whole
or not at all.
"""

import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from core.errors import (
    IntegrityError,
    InvalidInputError,
    NotFoundError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
)
from core.storage.files import BLOB_MODE, install, raise_full
from core.storage.partial import LocalPartialBlob, LocalPartials
from core.storage.protocol import Blob, Buffer, check_digest

_CHUNK = 1024 * 1024
_RESERVE_CHECK_BYTES = 64 * 1024 * 1024


class LocalBlobWriter:
    """See BlobWriter. Made by LocalBlobStore.writer."""

    def __init__(self, store: "LocalBlobStore", max_bytes: int | None) -> None:
        self._store = store
        self._max_bytes = max_bytes
        self._hash = hashlib.sha256()
        self._size = 0
        self._unchecked = 0
        self._temp = store.temp_dir / secrets.token_hex(16)
        try:
            self._fd: int | None = os.open(self._temp, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise_full(error)

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: Buffer) -> None:
        if self._fd is None:
            raise ValueError("the writer is closed")
        view = memoryview(data).cast("B")
        if self._max_bytes is not None and self._size + len(view) > self._max_bytes:
            raise TooLargeError("too_large", f"More than the {self._max_bytes} bytes allowed.")
        self._unchecked += len(view)
        if self._unchecked >= _RESERVE_CHECK_BYTES:
            self._store.check_reserve()
            self._unchecked = 0
        self._hash.update(view)
        rest = view
        try:
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError as error:
            raise_full(error)
        self._size += len(view)

    def commit(self, expected_sha256: str | None = None) -> Blob:
        if self._fd is None:
            raise ValueError("the writer is closed")
        digest = self.sha256
        if expected_sha256 is not None and digest != expected_sha256:
            self._discard()
            raise InvalidInputError(
                "digest_mismatch",
                f"The bytes received have the SHA-256 {digest}, not the one announced.",
                "Check the file and send it again.",
            )
        target = self._store.file_of(digest)
        try:
            os.fchmod(self._fd, BLOB_MODE)
            os.fsync(self._fd)
            os.close(self._fd)
            self._fd = None
            install(self._temp, target)
        except OSError as error:
            self._discard()
            raise_full(error)
        return Blob(digest, self._size)

    def _discard(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._temp.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._discard()


class LocalBlobStore:
    """See BlobStore.

    Args:
        root: folder of the store; made if absent.
        reserve_bytes: free space that uploads must leave untouched.
    """

    def __init__(self, root: Path, reserve_bytes: int = 0) -> None:
        self._root = root
        self._reserve_bytes = reserve_bytes
        self.temp_dir = root / "tmp"
        self._blobs = root / "sha256"
        for folder in (self.temp_dir, self._blobs):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._partials = LocalPartials(root / "partial", self.temp_dir, self.file_of, self.check_reserve)

    def file_of(self, sha256: str) -> Path:
        """Where the blob is or would be."""
        check_digest(sha256)
        return self._blobs / sha256[:2] / sha256

    def check_reserve(self, more_bytes: int = 0) -> None:
        if shutil.disk_usage(self._root).free - more_bytes < self._reserve_bytes:
            raise StorageFullError(
                "storage_full",
                "There is less free space on the disk than the service keeps in reserve.",
                "Free disk space, or lower ASSAY_FREE_SPACE_RESERVE_BYTES.",
            )

    def writer(self, max_bytes: int | None = None) -> LocalBlobWriter:
        self.check_reserve()
        return LocalBlobWriter(self, max_bytes)

    def partial(self, name: str, length: int) -> LocalPartialBlob:
        return self._partials.open(name, length)

    def partial_size(self, name: str) -> int:
        return self._partials.size(name)

    def partial_names(self, older_than_s: float) -> Iterator[str]:
        return self._partials.names(time.time() - older_than_s)

    def put_file(self, path: Path) -> Blob:
        with path.open("rb", buffering=0) as source, self.writer() as writer:
            buffer = bytearray(_CHUNK)
            view = memoryview(buffer)
            while count := source.readinto(buffer):
                writer.write(view[:count])
            return writer.commit()

    def path(self, sha256: str) -> Path:
        self._stat(sha256)
        return self.file_of(sha256)

    def open_verified(self, sha256: str) -> BinaryIO:
        self._stat(sha256)
        try:
            fd = os.open(self.file_of(sha256), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            raise self._not_found() from None
        file = os.fdopen(fd, "rb")
        try:
            if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                raise IntegrityError(
                    "blob_corrupt", "The stored bytes no longer match their digest.", "Send the file again."
                )
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def exists(self, sha256: str) -> bool:
        try:
            self._stat(sha256)
        except NotFoundError:
            return False
        return True

    def size(self, sha256: str) -> int:
        return self._stat(sha256).st_size

    def modified_at(self, sha256: str) -> float:
        return self._stat(sha256).st_mtime

    def delete(self, sha256: str) -> bool:
        try:
            self.file_of(sha256).unlink()
        except FileNotFoundError:
            return False
        return True

    def iter(self) -> Iterator[Blob]:
        for file in self._blobs.glob("??/*"):
            try:
                yield Blob(file.name, self.size(file.name))
            except (NotFoundError, InvalidInputError):  # removed meanwhile, or no blob of ours
                continue

    def collect_temp(self, older_than_s: float = 86400) -> int:
        limit = time.time() - older_than_s
        removed = 0
        for file in self.temp_dir.iterdir():
            try:
                if file.lstat().st_mtime < limit:
                    file.unlink()
                    removed += 1
            except FileNotFoundError:  # its writer finished meanwhile
                continue
        return removed

    def probe(self) -> None:
        self.check_reserve()
        try:
            with self.writer() as writer:
                writer.write(b"probe")
        except OSError as error:
            raise UnavailableError("storage_unavailable", "The blob store cannot be written.") from error

    def _stat(self, sha256: str) -> os.stat_result:
        try:
            found = self.file_of(sha256).lstat()
        except FileNotFoundError:
            raise self._not_found() from None
        if not stat.S_ISREG(found.st_mode):  # a link put there by someone else is no blob
            raise self._not_found()
        return found

    @staticmethod
    def _not_found() -> NotFoundError:
        return NotFoundError("blob_not_found", "There is no such blob.", "Send the file first: PUT /v1/blobs/{sha256}.")
