import pytest

from core.hub.client import NetworkHub
from core.hub.source import FileAt, HubFile
from tests.support.hub import LocalHub


@pytest.fixture
def client(hub: LocalHub) -> NetworkHub:
    return NetworkHub(hub.address, (hub.storage,))


class MemorySink:
    """A Sink in memory."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        self.data += data

    def rollback(self, size: int) -> None:
        del self.data[size:]


@pytest.fixture
def sink() -> MemorySink:
    return MemorySink()


def where(commit: str, path: str, data: bytes) -> FileAt:
    return FileAt("org/name", commit, HubFile(path, len(data), None, None))
