import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.domain import JobState
from core.errors import UnavailableError
from tests.support.jobs import ORG, Desk, desk
from tests.support.processes import wait_until
from worker.housekeeping import Sweeper, sweep_once


class Doorbell:
    """Keeps what was announced; can be out of order."""

    def __init__(self) -> None:
        self.rung: list[str] = []
        self.broken = False

    def publish(self, scan_id: str, queue: str = "scan.small") -> None:
        if self.broken:
            raise UnavailableError("broker_unavailable", "away")
        self.rung.append(scan_id)


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, lease_s=0.6, renew_s=0.2, republish_s=0.5) as made:
        yield made


def test_what_was_never_announced_is_announced_once(office: Desk) -> None:
    scan, bell = office.submit(), Doorbell()
    assert sweep_once(office.service, bell) == 1
    assert sweep_once(office.service, bell) == 0
    assert bell.rung == [scan]


def test_what_nobody_took_is_announced_again(office: Desk) -> None:
    scan, bell = office.submit(), Doorbell()
    sweep_once(office.service, bell)
    wait_until(lambda: sweep_once(office.service, bell) == 1, 3)
    assert bell.rung == [scan, scan]


def test_a_broker_that_is_away_changes_nothing(office: Desk) -> None:
    scan, bell = office.submit(), Doorbell()
    bell.broken = True
    assert sweep_once(office.service, bell) == 0
    bell.broken = False
    assert sweep_once(office.service, bell) == 1
    assert bell.rung == [scan]


def test_everything_queued_is_announced_to_a_fresh_broker(office: Desk) -> None:
    scan, bell = office.submit(), Doorbell()
    office.service.mark_published(scan)
    assert sweep_once(office.service, bell) == 0
    assert sweep_once(office.service, bell, everything=True) == 1


def test_a_lost_worker_costs_an_attempt_until_there_are_no_more(office: Desk) -> None:
    scan, bell = office.submit(), Doorbell()
    for attempt in range(1, office.settings.max_attempts + 1):
        claim = office.service.claim(scan, "doomed")
        assert claim is not None
        assert claim.token == attempt
        time.sleep(0.7)
        sweep_once(office.service, bell)
    view = office.view(scan)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.code == "worker_lost"
    assert bell.rung == [scan] * (office.settings.max_attempts - 1)


def test_a_cancel_of_a_lost_worker_is_honoured(office: Desk) -> None:
    scan = office.submit()
    office.service.claim(scan, "doomed")
    office.service.request_cancel(ORG, scan)
    time.sleep(0.7)
    sweep_once(office.service, Doorbell())
    assert office.state(scan) is JobState.CANCELED


def test_the_sweeper_survives_errors_and_stops_at_once(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bell, calls = Doorbell(), []

    def reap() -> list[str]:
        calls.append(1)
        if len(calls) < 3:
            raise UnavailableError("database_unavailable", "away")
        return []

    monkeypatch.setattr(office.service, "reap", reap)
    left_over = office.settings.data_dir / "work" / "scan_x-1-0"
    left_over.mkdir(parents=True)
    scan = office.submit()
    sweeper = Sweeper(office.service, bell, left_over.parent, interval_s=0.05)
    sweeper.start()
    wait_until(lambda: bell.rung == [scan] and not left_over.exists(), 5)
    sweeper.stop()
    count = len(calls)
    time.sleep(0.15)
    assert len(calls) == count
    assert "sweeper" not in {thread.name for thread in threading.enumerate()}


def test_the_sweeper_removes_what_interrupted_uploads_left(office: Desk) -> None:
    abandoned = office.settings.blobs_dir / "tmp" / "abandoned"
    abandoned.parent.mkdir(parents=True, exist_ok=True)
    abandoned.write_bytes(b"half an upload")
    past = time.time() - 7200
    os.utime(abandoned, (past, past))
    sweeper = Sweeper(office.service, Doorbell(), office.settings.data_dir / "work", interval_s=60)
    sweeper.start()
    wait_until(lambda: not abandoned.exists(), 5)
    sweeper.stop()
