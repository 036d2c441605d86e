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


class BlobStore(Protocol):
    """Where the bytes are. Which organisation may see a blob is the registry's business."""

    def writer(self, max_bytes: int | None = None) -> BlobWriter:
        """A writer for one blob of at most `max_bytes`. Raises StorageFullError if there is no room to begin."""

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

    def probe(self) -> None:
        """Check that a blob could be stored now.

        Raises:
            StorageFullError: less than the reserve is free.
            UnavailableError: `storage_unavailable`, the store cannot be written.
        """
