"""Databases, registries and a local Hub for whoever asks for one."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from core.registry.session import Database
from tests.support.databases import fresh_database
from tests.support.hub import LocalHub, local_hub
from tests.support.registry import Bench


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    with fresh_database(request.param, tmp_path) as database:
        yield database


@pytest.fixture
def bench(db: Database, tmp_path: Path) -> Bench:
    return Bench.at(db, tmp_path)


@pytest.fixture
def bench_with(db: Database, tmp_path: Path) -> Callable[..., Bench]:
    def make(**settings: Any) -> Bench:
        return Bench.at(db, tmp_path, **settings)

    return make


@pytest.fixture(scope="module")
def running_hub() -> Iterator[LocalHub]:
    with local_hub() as hub:
        yield hub


@pytest.fixture
def hub(running_hub: LocalHub) -> LocalHub:
    """A Hub without any past."""
    running_hub.repos.clear()
    running_hub.faults.clear()
    running_hub.asked.clear()
    running_hub.page_size, running_hub.large_files = 1000, True
    return running_hub
