"""Stored bytes on their way out: verified before the first byte leaves, with ranges.

Every file is hashed before anything of it is sent. For a large one (more than ALWAYS_VERIFY_BYTES) that is
remembered for VERIFIED_S under (inode, size, modification time in nanoseconds), so that a download in many ranges
hashes it once; a change on the disk changes the key. A whole download is hashed again while it is sent, and its last
block is held back until the digest is right: damaged bytes are never served whole.
"""

import asyncio
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator
from threading import Lock
from typing import BinaryIO

from api.problems import ProblemError
from core.errors import IntegrityError, NotFoundError
from core.storage.protocol import BlobStore

ALWAYS_VERIFY_BYTES = 64 * 1024 * 1024
VERIFIED_S = 600.0
BLOCK_BYTES = 1024 * 1024
_MAX_REMEMBERED = 1024

_RANGE = re.compile(r"bytes=\s*(\d{0,19})\s*-\s*(\d{0,19})\s*")


class Verifier:
    """Opens blobs whose bytes are what they were. Thread-safe; methods block."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._verified: dict[tuple[str, int, int, int], float] = {}
        self._lock = Lock()

    def open(self, sha256: str) -> BinaryIO:
        """The file, at position 0.

        Raises:
            IntegrityError: the stored bytes have changed, or are gone although the registry knows them.
        """
        try:
            path = self._store.path(sha256)
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb", buffering=0)
        except (NotFoundError, FileNotFoundError):
            raise IntegrityError(
                "blob_missing", "The stored bytes are gone.", "Upload the file again, or scan the model again."
            ) from None
        try:
            status = os.fstat(file.fileno())
            key = (sha256, status.st_ino, status.st_size, status.st_mtime_ns)
            if status.st_size <= ALWAYS_VERIFY_BYTES or not self._is_fresh(key):
                if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
                    raise corrupt()
                self._remember(key)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def _is_fresh(self, key: tuple[str, int, int, int]) -> bool:
        with self._lock:
            verified_at = self._verified.get(key)
        return verified_at is not None and time.monotonic() - verified_at < VERIFIED_S

    def _remember(self, key: tuple[str, int, int, int]) -> None:
        with self._lock:
            if len(self._verified) >= _MAX_REMEMBERED:
                self._verified.pop(next(iter(self._verified)))
            self._verified[key] = time.monotonic()


def corrupt() -> IntegrityError:
    """The answer to a flipped byte."""
    return IntegrityError(
        "blob_corrupt", "The stored bytes no longer match their digest.", "Upload the file again, or scan again."
    )


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """First and last byte of a single satisfiable range; None: send everything.

    Several ranges and other units are ignored, as RFC 9110 allows.

    Raises:
        ProblemError: 416, the range begins after the end.
    """
    match = _RANGE.fullmatch(header) if header else None
    if match is None or match.group() == "" or (not match[1] and not match[2]):
        return None
    if match[1]:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            return None  # not a valid range at all
    else:
        first, last = max(size - int(match[2]), 0), size - 1
        if int(match[2]) == 0:
            first = size
    if first >= size:
        raise ProblemError(
            416,
            "range_not_satisfiable",
            f"The file has {size} bytes.",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return first, last


async def send_file(file: BinaryIO, first: int, last: int, *, whole_sha256: str | None) -> AsyncIterator[bytes]:
    """Blocks of bytes `first`..`last`; closes `file`.

    Args:
        whole_sha256: digest to hold the last block back for, when all of the file is sent.

    Raises:
        IntegrityError: while sending; the server then closes the connection and the body ends short.
    """
    running = hashlib.sha256() if whole_sha256 is not None else None
    left = last - first + 1
    try:
        file.seek(first)
        while left > 0:
            block = await asyncio.to_thread(file.read, min(BLOCK_BYTES, left))
            if not block:
                raise corrupt()
            left -= len(block)
            if running is not None:
                await asyncio.to_thread(running.update, block)
                if left == 0 and running.hexdigest() != whole_sha256:
                    raise corrupt()
            yield block
    finally:
        file.close()
