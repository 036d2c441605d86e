"""A local Hub, and a server that fetches from it."""

from collections.abc import Iterator

import pytest

from api.client import Client
from tests.support.hub import LocalHub, local_hub, settings_for
from tests.support.serving import serving


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    with local_hub() as running:
        yield running


@pytest.fixture(scope="module")
def server(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with (
        serving(tmp_path_factory.mktemp("serve") / "data", **settings_for(hub)) as (http, _),
        Client(str(http.base_url)) as client,
    ):
        yield client
