"""The worker's process is killed, frozen or told to go while files of a Hub are on their way."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from core.domain import JobState
from tests.faults.conftest import Start
from tests.support.hub import Fault, LocalHub, local_hub, settings_for
from tests.support.jobs import Desk, desk
from tests.support.processes import stop, wait_until

WEIGHTS = os.urandom(6 * 2**20)
SLOW = Fault(block_pause_s=0.05)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with local_hub() as hub:
        yield hub


@pytest.fixture
def office(hub: LocalHub, tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, **settings_for(hub)) as made:
        yield made


def submit(hub: LocalHub, office: Desk) -> str:
    hub.publish("org/name", {"config.json": office.script(), "model.safetensors": WEIGHTS})
    hub.fail("model.safetensors", replace(SLOW))
    return office.submit_hub("org/name")


def has_bytes(office: Desk) -> bool:
    return any(office.store.partial_size(name) > 2**21 for name in office.store.partial_names(-1))


def storage_ranges(hub: LocalHub) -> list[str | None]:
    return [item.range for item in hub.gets("model.safetensors") if item.path.startswith("/storage")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_another_process_goes_on_with_the_transfer(
    hub: LocalHub, office: Desk, start: Start, number: signal.Signals
) -> None:
    scan = submit(hub, office)
    server = start("embedded", **settings_for(hub))
    wait_until(lambda: has_bytes(office), 60, "some bytes")
    assert office.view(scan).stage == "fetching"
    stop(server, number)
    assert office.state(scan) is (JobState.RUNNING if number == signal.SIGKILL else JobState.QUEUED)
    start("embedded", **settings_for(hub))
    view = office.wait(scan)
    assert (view.state, view.attempt) == (JobState.SUCCEEDED, 2)
    first, second = storage_ranges(hub)
    assert first is None
    assert second is not None
    assert int(second.removeprefix("bytes=").removesuffix("-")) >= 2**21
    assert len(office.logged("finished", scan)) == 1
    assert office.store.open_verified(view.artifacts[0].sha256).read()
    assert list(office.store.partial_names(-1)) == []
    assert office.service.check_store().missing == []


def test_frozen_past_the_lease_it_spoils_nothing(hub: LocalHub, office: Desk, start: Start) -> None:
    """Two workers after the same bytes: one has the lock, the other waits for it or finds them complete."""
    scan = submit(hub, office)
    frozen = start("embedded", **settings_for(hub))
    wait_until(lambda: has_bytes(office), 60, "some bytes")
    frozen.send_signal(signal.SIGSTOP)
    start("embedded", **settings_for(hub))
    wait_until(lambda: office.view(scan).attempt == 2, 30, "another claim")
    frozen.send_signal(signal.SIGCONT)
    view = office.wait(scan, timeout_s=100)
    assert view.state is JobState.SUCCEEDED
    assert len(office.logged("finished", scan)) == 1
    assert office.service.check_store().missing == []
