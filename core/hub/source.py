"""What a place that serves repositories must be able to do; a Hub over the network, or a folder that mirrors one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from core.hub.reference import HubRef

#: Asked while bytes are on their way; True: give up now.
ShouldStop = Callable[[], bool]

#: Files up to this size may be read into memory, to be hashed where the Hub does not say their SHA-256.
SMALL_BYTES = 16 * 2**20
#: More files than this are no model's repository.
MAX_LISTED = 10_000


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a repository at one commit, as the repository lists it."""

    path: str
    size_bytes: int
    sha256: str | None  # of files in large file storage
    git_oid: str | None  # Git's name for the bytes; for others than those in large file storage


@dataclass(frozen=True, slots=True)
class FileAt:
    """A file, and where it is."""

    repo: str  # HubRef.address
    commit: str
    file: HubFile


class Sink(Protocol):
    """Where bytes go; what it has already is not asked for again. See core.storage.protocol.PartialBlob."""

    @property
    def size(self) -> int: ...

    def write(self, data: bytes) -> object: ...

    def rollback(self, size: int) -> None: ...


class HubSource(Protocol):
    """A place that serves repositories. Every method may raise the errors of core/hub/errors.py and blocks."""

    @property
    def endpoint(self) -> str:
        """What tokens are kept for; empty where none is needed."""

    def commit(self, ref: HubRef, token: str | None) -> str:
        """The commit a reference stands for now: 40 hexadecimal digits.

        Raises:
            HubMissingError: no such repository or revision.
            HubDeniedError: not with this token.
        """

    def files(self, repo: str, commit: str, token: str | None) -> list[HubFile]:
        """All files of the repository (HubRef.address) at `commit`, at most MAX_LISTED."""

    def read(self, where: FileAt, token: str | None) -> bytes:
        """The bytes of a file of at most SMALL_BYTES."""

    def digest(self, where: FileAt, token: str | None) -> str | None:
        """SHA-256 of a larger file that was listed without one, if that can be found out within reason."""

    def fetch(self, where: FileAt, token: str | None, sink: Sink, should_stop: ShouldStop) -> None:
        """Write to `sink` what it lacks of the file. The bytes are as many as announced, and not verified.

        Raises:
            HubStoppedError: `should_stop` said so.
        """
