"""Writing to the disk as the local store does it: whole, durable, and with "no room" as a deliberate error."""

import errno
import os
from pathlib import Path
from typing import NoReturn

from core.errors import StorageFullError

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
BLOB_MODE = 0o440


def raise_full(error: OSError) -> NoReturn:
    """Translate "no room" into StorageFullError; anything else stays what it is."""
    if error.errno in _FULL:
        raise StorageFullError(
            "storage_full", "There is no room left to store this.", "Free disk space and send it again."
        ) from error
    raise error


def fsync_directory(path: Path) -> None:
    """Make what was renamed into `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def install(temporary: Path, target: Path) -> None:
    """Let the complete, synced file `temporary` become `target`, durably, in one step.

    An equal blob is replaced on purpose: sending a file again repairs a damaged copy.
    """
    if not target.parent.is_dir():
        target.parent.mkdir(exist_ok=True)
        fsync_directory(target.parent.parent)
    os.replace(temporary, target)
    fsync_directory(target.parent)
