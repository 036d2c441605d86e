"""A local Hub for whoever asks for one."""

from collections.abc import Iterator

import pytest

from tests.support.hub import LocalHub, local_hub


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
