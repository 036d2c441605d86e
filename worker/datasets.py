"""Images from a data set of the Hub on their way to a folder. In the parent: children get paths, never the network."""

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import CanceledError
from core.hub.datasets import choose_images
from core.hub.errors import HubStoppedError, HubTooLargeError, HubUnavailableError
from core.hub.reference import HubRef
from core.hub.snapshot import mismatch
from core.hub.source import FileAt, HubFile
from core.storage.files import raise_full
from worker.hub import HubDesk

LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class FetchedImages:
    """What a data set gave.

    Attributes:
        commit: 40 hexadecimal digits.
        files: (name in the reference set, where its bytes are).
        is_archive: whether it is one archive (zip, tar, Parquet), not images.
        available: how many images, or archives, there were to choose from.
    """

    commit: str
    files: list[tuple[str, Path]]
    is_archive: bool
    available: int


def fetch_images(
    desk: HubDesk,
    org_id: str,
    ref: HubRef,
    split: str | None,
    folder: Path,
    *,
    check_room: Callable[[int], None],
    should_stop: Callable[[], bool],
    limit_s: float = LIMIT_S,
) -> FetchedImages:
    """Fetch the images of a data set to the empty `folder`. Blocks for minutes.

    Args:
        ref: of a data set.
        split: a folder or an archive in it; None: all of it.
        check_room: called with the bytes that will be fetched; raises if there is no room.
        should_stop: asked while bytes are on their way.

    Raises:
        HubError: see core/hub/errors.py and core/hub/datasets.py; `hub_too_slow`.
        CanceledError: `should_stop` said so.
        StorageFullError: the disk is full.
    """
    until = time.monotonic() + limit_s
    source, token = desk.source, desk.token(org_id)
    commit = source.commit(ref, token)
    choice = choose_images(source.files(ref.address, commit, token), split)
    total = sum(file.size_bytes for _, file in choice.files)
    if total > desk.limits.file_bytes:
        raise HubTooLargeError(
            "hub_file_too_large",
            f"The images have {total} bytes together; the limit is {desk.limits.file_bytes}.",
            "Name a smaller folder or archive as `split`.",
        )
    check_room(total)
    fetched: list[tuple[str, Path]] = []
    try:
        for name, file in choice.files:
            location = folder / f"{len(fetched):05}"
            with _Sink(location) as sink:
                source.fetch(
                    FileAt(ref.address, commit, file),
                    token,
                    sink,
                    lambda: should_stop() or time.monotonic() > until,
                )
            _verify(location, file)
            fetched.append((name, location))
            if should_stop() or time.monotonic() > until:
                raise HubStoppedError
    except HubStoppedError:
        if should_stop():
            raise CanceledError from None
        raise HubUnavailableError(
            "hub_too_slow",
            f"{len(fetched)} of {len(choice.files)} files had come after {limit_s:.0f} s.",
            "Name a smaller folder as `split`, or upload the images as a zip archive.",
        ) from None
    return FetchedImages(commit, fetched, choice.is_archive, choice.available)


def _verify(location: Path, file: HubFile) -> None:
    """Raises HubBrokenError if the bytes are not those the repository lists."""
    with location.open("rb") as opened:
        if file.sha256 is not None:
            right = hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
        elif file.git_oid is not None:
            git = hashlib.sha1(b"blob %d\0" % file.size_bytes, usedforsecurity=False)
            while block := opened.read(1 << 20):
                git.update(block)
            right = git.hexdigest() == file.git_oid
        else:
            right = True  # a plain folder lists no digests
    if not right:
        raise mismatch(file.path)


class _Sink:
    """A file as core.hub.source.Sink; a context manager."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self._size = 0

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                count = self._file.write(rest)
                self._size += count
                rest = rest[count:]
        except OSError as error:
            raise_full(error)

    def rollback(self, size: int) -> None:
        os.ftruncate(self._file.fileno(), size)
        self._file.seek(size)
        self._size = size

    def __enter__(self) -> "_Sink":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
