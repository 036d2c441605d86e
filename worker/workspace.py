"""Job folders: private, fresh for each attempt, gone afterwards whatever happens.

A folder is locked (flock) by the process that works in it. The lock dies with the process, so anybody can tell a
left-over of a killed worker from a folder in use.
"""

import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def work_root(data_dir: Path) -> Path:
    """Where the job folders of a data directory are."""
    return data_dir.absolute() / "work"


@contextlib.contextmanager
def job_folder(root: Path, scan_id: str, attempt: int) -> Iterator[Path]:
    """A new, empty, locked folder root/<scan>-<attempt>-<random>, removed at the end."""
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    while True:
        path = root / f"{_UNSAFE.sub('_', scan_id)}-{attempt}-{secrets.token_hex(4)}"
        path.mkdir(mode=0o700)
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(fd, fcntl.LOCK_EX)
            if path.exists():
                break
            os.close(fd)
        # A sweep came between mkdir and flock and took it for a left-over.
    try:
        yield path
    finally:
        _remove(path)
        os.close(fd)


def remove_left_overs(root: Path) -> int:
    """Remove the folders that no living process works in; returns how many."""
    removed = 0
    if not root.is_dir():
        return removed
    for path in root.iterdir():
        try:
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:  # gone meanwhile, or no folder of ours
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # in use
        else:
            _remove(path)
            removed += 1
        finally:
            os.close(fd)
    return removed


def _remove(path: Path) -> None:
    """Remove a tree, also folders a child made unreadable; what stays is the next sweep's."""
    with contextlib.suppress(FileNotFoundError):
        for folder, _, _ in os.walk(path):
            os.chmod(folder, 0o700)
    shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        log.warning("could not remove the job folder %s", path.name)
