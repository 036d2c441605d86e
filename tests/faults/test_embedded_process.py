"""The embedded worker's process is killed, frozen, or told to go, in the middle of a scan."""

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from core.domain import JobState
from tests.faults.conftest import Start
from tests.support.jobs import ORG, Desk
from tests.support.processes import stop, wait_until


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def assert_healthy(office: Desk) -> None:
    """A control scan goes through, and nothing of any attempt is left."""
    control = office.submit()
    assert office.wait(control).state is JobState.SUCCEEDED
    wait_until(lambda: office.left_overs() == [], 20, "left-overs gone")


@pytest.mark.parametrize("stage", ["loading", "inverting", "publishing"])
def test_kill_9_in_the_middle_then_a_restart_finishes_the_scan_once(office: Desk, start: Start, stage: str) -> None:
    scan = office.submit(stages={stage: 2})
    server = start("embedded")
    office.wait_for_stage(scan, stage)
    child = office.logged("started", scan)[0]
    stop(server, signal.SIGKILL)
    if sys.platform == "linux":
        wait_until(lambda: not is_alive(child), 5, "the child's end")
    assert office.state(scan) is JobState.RUNNING

    start("embedded")
    view = office.wait(scan)
    assert (view.state, view.attempt, len(view.artifacts)) == (JobState.SUCCEEDED, 2, 1)
    assert len(office.logged("finished", scan)) == 1
    assert_healthy(office)


def test_kill_9_of_the_child_is_retried_and_finishes_once(
    office: Desk, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = office.submit(stages={"inverting": 1})
    start("embedded", sweep_s=1)
    office.wait_for_stage(scan, "inverting")
    os.kill(office.logged("started", scan)[0], signal.SIGKILL)
    view = office.wait(scan, timeout_s=60)  # it backs off for some seconds first
    assert (view.state, view.attempt) == (JobState.SUCCEEDED, 2)
    assert len(office.logged("finished", scan)) == 1


def test_sigterm_puts_the_scan_back_and_leaves_soon(office: Desk, start: Start) -> None:
    scan = office.submit(stages={"unlearning": 60})
    server = start("embedded")
    office.wait_for_stage(scan, "unlearning")
    begin = time.monotonic()
    assert stop(server) == 0
    assert time.monotonic() - begin < 5
    assert office.state(scan) is JobState.QUEUED
    assert office.logged("stopped", scan)
    assert office.left_overs() == []


def test_frozen_past_the_lease_it_finds_itself_fenced(office: Desk, start: Start) -> None:
    scan = office.submit(stages={"inverting": 4})
    frozen = start("embedded")
    office.wait_for_stage(scan, "inverting")
    frozen.send_signal(signal.SIGSTOP)
    time.sleep(office.settings.lease_s + 0.5)
    start("embedded")
    wait_until(lambda: office.view(scan).attempt == 2, 60, "the second attempt")
    frozen.send_signal(signal.SIGCONT)
    view = office.wait(scan, timeout_s=60)
    assert (view.state, view.attempt, len(view.artifacts)) == (JobState.SUCCEEDED, 2, 1)
    first, second = office.logged("started", scan)
    assert second in office.logged("finished", scan)
    assert len(office.service.report(ORG, scan)["artifacts"]) == 1
    if sys.platform == "linux":
        wait_until(lambda: not is_alive(first), 5, "the end of the fenced child")
    assert frozen.poll() is None  # it goes on working
    assert_healthy(office)


def test_a_locked_database_holds_up_but_does_not_hurt(office: Desk, start: Start) -> None:
    from sqlalchemy import text

    scan = office.submit(stages={"inverting": 1})
    start("embedded")
    office.wait_for_stage(scan, "inverting")
    with office.db.begin() as session:  # the write lock, for longer than the lease
        session.execute(text("SELECT 1"))
        time.sleep(office.settings.lease_s + 1)
    view = office.wait(scan, timeout_s=60)
    assert (view.state, view.error) == (JobState.SUCCEEDED, None)
    assert len(office.logged("finished", scan)) <= 2
    assert len(view.artifacts) == 1


def test_left_overs_of_a_killed_worker_are_gone_after_the_next_start(office: Desk, start: Start) -> None:
    scan = office.submit(stages={"inverting": 60})
    server = start("embedded")
    office.wait_for_stage(scan, "inverting")
    stop(server, signal.SIGKILL)
    assert len(office.left_overs()) == 1
    office.service.request_cancel(ORG, scan)
    start("embedded")
    assert office.wait(scan).state is JobState.CANCELED
    wait_until(lambda: office.left_overs() == [], 20, "left-overs gone")
