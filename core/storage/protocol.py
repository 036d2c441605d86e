"""What a content-addressed blob store can do; blobs are named by the SHA-256 of their bytes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

from core.errors import InvalidInputError

Buffer = bytes | bytearray | memoryview

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """Immutable bytes in a store."""

    sha256: str  # 64 lower-case hexadecimal digits
    size_bytes: int


def check_digest(sha256: str) -> str:
    """Returns `sha256` if it is one, so that nothing else ever becomes part of a path.

    Raises:
        InvalidInputError: `invalid_digest`.
    """
    if not _DIGEST.fullmatch(sha256):
        raise InvalidInputError("invalid_digest", "A digest is the SHA-256 as 64 lower-case hexadecimal digits.")
    return sha256


class BlobWriter(Protocol):
    """Bytes on their way into a store; a context manager. Leaving it uncommitted keeps nothing."""

    @property
    def sha256(self) -> str:
        """Digest of what was written so far."""

    @property
    def size(self) -> int:
        """Bytes written so far."""

    def write(self, data: Buffer) -> None:
        """Append `data`.

        Raises:
            TooLargeError: more than the writer's `max_bytes`; nothing beyond the limit is written.
            StorageFullError: the disk, or what may be used of it, is full.
        """

    def commit(self, expected_sha256: str | None = None) -> Blob:
        """Make the blob durable and visible at once.

        Raises:
            InvalidInputError: `digest_mismatch`, the bytes are not the announced ones; nothing is kept.
            StorageFullError: the disk is full; nothing is kept.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class PartialBlob(Protocol):
    """A blob that arrives in several goes, perhaps with restarts between them; a context manager.

    While it is open nobody else can write to it. What was written stays when it is closed, until it is discarded.
    """

    @property
    def size(self) -> int:
        """Bytes that are there: where the next one goes."""

    def write(self, data: Buffer) -> None:
        """Append `data`. Slow at first where the bytes already there must be hashed again.

        Raises:
            TooLargeError: more than the announced length; nothing of `data` is written.
            StorageFullError: the disk, or what may be used of it, is full; `size` counts what was written.
        """

    def rollback(self, size: int) -> None:
        """Forget the bytes behind `size`, which must not lie before the size at opening."""

    def commit(self, expected_sha256: str | None = None) -> Blob:
        """Make the complete blob durable and visible; the bytes also stay here, until they are discarded.

        Raises:
            InvalidInputError: `digest_mismatch`, the bytes are not the announced ones; nothing is kept.
            StorageFullError: the disk is full; the upload stays.
        """

    def discard(self) -> None:
        """Remove the bytes and close."""

    def close(self) -> None:
        """Make what was written durable and let others write. Raises StorageFullError."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class BlobStore(Protocol):
    """Where the bytes are. Which organisation may see a blob is the registry's business."""

    def writer(self, max_bytes: int | None = None) -> BlobWriter:
        """A writer for one blob of at most `max_bytes`. Raises StorageFullError if there is no room to begin."""

    def partial(self, name: str, length: int) -> PartialBlob:
        """Open the upload `name` of `length` bytes in all, new or begun, for writing.

        Raises:
            LockedError: `upload_locked`, somebody else is writing to it.
            NotFoundError: `upload_not_found`, it was discarded at this moment.
        """

    def partial_size(self, name: str) -> int:
        """How many bytes of that upload are there; 0 if there is none."""

    def partial_names(self, older_than_s: float) -> Iterator[str]:
        """The uploads nobody has written to for so long."""

    def put_file(self, path: Path) -> Blob:
        """Copy the regular file `path` into the store. Raises StorageFullError."""

    def path(self, sha256: str) -> Path:
        """Where the blob can be read, unverified. Raises NotFoundError (`blob_not_found`)."""

    def open_verified(self, sha256: str) -> BinaryIO:
        """The blob, at position 0, its bytes compared with its name first.

        Raises:
            NotFoundError: `blob_not_found`.
            IntegrityError: `blob_corrupt`, the stored bytes have changed.
        """

    def exists(self, sha256: str) -> bool: ...

    def size(self, sha256: str) -> int:
        """Size in bytes. Raises NotFoundError (`blob_not_found`)."""

    def modified_at(self, sha256: str) -> float:
        """When it was last stored, in seconds since the epoch. Raises NotFoundError (`blob_not_found`)."""

    def delete(self, sha256: str) -> bool:
        """Remove the blob; whether there was one."""

    def iter(self) -> Iterator[Blob]:
        """Every blob, in no order."""

    def collect_temp(self, older_than_s: float) -> int:
        """Remove what interrupted writers left behind; returns how many files."""

    def check_reserve(self, more_bytes: int = 0) -> None:
        """Raises StorageFullError if `more_bytes` would eat into the reserve of free space."""

    def probe(self) -> None:
        """Check that a blob could be stored now.

        Raises:
            StorageFullError: less than the reserve is free.
            UnavailableError: `storage_unavailable`, the store cannot be written.
        """
