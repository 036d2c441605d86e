from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli import Cli
from tests.support.http import LiveServer, live_server


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(tmp_path_factory.mktemp("live") / "data") as made:
        yield made


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Cli:
    """Commands without a server, with a data folder of their own."""
    return Cli(capsys, monkeypatch, data_dir=tmp_path / "data")


@pytest.fixture
def remote(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, live: LiveServer) -> Cli:
    """Commands that talk to the live server."""
    return Cli(capsys, monkeypatch, server=live.address, api_key=live.harness.key)
