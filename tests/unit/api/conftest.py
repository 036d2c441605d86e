from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.http import Harness, LiveServer, app_client, live_server

App = tuple[TestClient, Harness]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """One app for the tests of a module, which do not depend on what else is in it."""
    with app_client(tmp_path_factory.mktemp("app") / "data") as made:
        yield made


@pytest.fixture(scope="module")
def client(shared: App) -> TestClient:
    return shared[0]


@pytest.fixture(scope="module")
def harness(shared: App) -> Harness:
    return shared[1]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[App]:
    """An app of its own."""
    with app_client(tmp_path / "data") as made:
        yield made


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A real server."""
    with live_server(tmp_path_factory.mktemp("live") / "data") as made:
        yield made
