"""Worker processes and a sweeper on Redis: killed, frozen, told to go, or without their broker."""

import signal
import subprocess
import time

import pytest

from core.domain import JobState
from tests.faults.conftest import Start
from tests.support.jobs import ORG, Desk
from tests.support.processes import stop, wait_until
from tests.support.redis import RedisServer
from worker.app import make_app
from worker.dispatch import CeleryDispatcher, publish_after_commit

pytestmark = pytest.mark.services


def dispatcher(redis: RedisServer) -> CeleryDispatcher:
    return CeleryDispatcher(make_app(redis.url, publisher=True))


def owner_of(office: Desk, scan: str, workers: "list[subprocess.Popen[bytes]]") -> "subprocess.Popen[bytes]":
    """The worker process that claimed the scan last."""
    owners = [e.payload["owner"] for e in office.service.events(ORG, scan) if e.payload["event"] == "claimed"]
    pid = int(owners[-1].split(":")[1])
    return next(worker for worker in workers if worker.pid == pid)


def test_kill_9_of_a_worker_hands_its_scan_to_the_other(office: Desk, redis: RedisServer, start: Start) -> None:
    workers = [start("worker", broker_url=redis.url) for _ in range(2)]
    start("sweep", broker_url=redis.url)
    scan = office.submit(stages={"inverting": 3})
    publish_after_commit(office.service, dispatcher(redis), scan)
    office.wait_for_stage(scan, "inverting")
    stop(owner_of(office, scan, workers), signal.SIGKILL)
    view = office.wait(scan, timeout_s=60)
    assert (view.state, view.attempt, len(view.artifacts)) == (JobState.SUCCEEDED, 2, 1)
    assert len(office.logged("finished", scan)) == 1


def test_the_same_message_many_times_has_one_effect(office: Desk, redis: RedisServer, start: Start) -> None:
    for _ in range(2):
        start("worker", broker_url=redis.url)
    bell = dispatcher(redis)
    scan = office.submit(stages={"inverting": 0.5})
    for _ in range(6):
        bell.publish(scan)
    assert office.wait(scan).state is JobState.SUCCEEDED
    for _ in range(3):
        bell.publish(scan)
    control = office.submit()
    bell.publish(control)
    assert office.wait(control).state is JobState.SUCCEEDED
    assert len(office.logged("started", scan)) == 1
    assert office.view(scan).attempt == 1


def test_sigterm_drains_a_worker_and_the_other_one_takes_over(office: Desk, redis: RedisServer, start: Start) -> None:
    first = start("worker", broker_url=redis.url)
    scan = office.submit(stages={"inverting": 3})
    bell = dispatcher(redis)
    publish_after_commit(office.service, bell, scan)
    office.wait_for_stage(scan, "inverting")
    begin = time.monotonic()
    assert stop(first) == 0
    assert time.monotonic() - begin < 6
    assert office.state(scan) is JobState.QUEUED
    start("worker", broker_url=redis.url)  # no sweeper: the drained worker announced the scan itself
    view = office.wait(scan, timeout_s=60)
    assert (view.state, len(office.logged("finished", scan))) == (JobState.SUCCEEDED, 1)


def test_frozen_past_the_lease_a_worker_finds_itself_fenced(office: Desk, redis: RedisServer, start: Start) -> None:
    workers = [start("worker", broker_url=redis.url) for _ in range(2)]
    start("sweep", broker_url=redis.url)
    scan = office.submit(stages={"inverting": 4})
    publish_after_commit(office.service, dispatcher(redis), scan)
    office.wait_for_stage(scan, "inverting")
    frozen = owner_of(office, scan, workers)
    frozen.send_signal(signal.SIGSTOP)
    wait_until(lambda: office.view(scan).attempt == 2, 60, "the second attempt")
    frozen.send_signal(signal.SIGCONT)
    view = office.wait(scan, timeout_s=60)
    assert (view.state, view.attempt, len(view.artifacts)) == (JobState.SUCCEEDED, 2, 1)
    assert owner_of(office, scan, workers) is not frozen
    assert frozen.poll() is None


def test_a_broker_that_is_down_at_submit_and_at_boot(office: Desk, redis: RedisServer, start: Start) -> None:
    redis.kill()
    scan = office.submit()
    assert not publish_after_commit(office.service, dispatcher(redis), scan)
    worker, sweeper = start("worker", broker_url=redis.url), start("sweep", broker_url=redis.url)
    time.sleep(3)
    assert (worker.poll(), sweeper.poll(), office.state(scan)) == (None, None, JobState.QUEUED)
    redis.start()
    assert office.wait(scan, timeout_s=60).state is JobState.SUCCEEDED


def test_a_worker_without_its_broker_can_still_be_told_to_go(office: Desk, redis: RedisServer, start: Start) -> None:
    redis.kill()
    worker = start("worker", broker_url=redis.url)
    time.sleep(3)
    begin = time.monotonic()
    stop(worker)
    assert time.monotonic() - begin < 6


def test_a_broker_that_loses_everything_loses_no_scan(office: Desk, redis: RedisServer, start: Start) -> None:
    start("worker", broker_url=redis.url)
    start("sweep", broker_url=redis.url)
    bell = dispatcher(redis)
    scans = [office.submit(stages={"inverting": 1}) for _ in range(3)]
    for scan in scans:
        publish_after_commit(office.service, bell, scan)
    office.wait_for_stage(scans[0], "inverting")
    redis.kill()
    time.sleep(0.5)
    redis.start()
    for scan in scans:
        assert office.wait(scan, timeout_s=60).state is JobState.SUCCEEDED
        assert len(office.logged("finished", scan)) == 1


def test_a_cancel_reaches_a_worker_in_another_process(office: Desk, redis: RedisServer, start: Start) -> None:
    worker = start("worker", broker_url=redis.url)
    scan = office.submit(stages={"verifying": 60})
    publish_after_commit(office.service, dispatcher(redis), scan)
    office.wait_for_stage(scan, "verifying")
    office.service.request_cancel(ORG, scan)
    assert office.wait(scan, timeout_s=60).state is JobState.CANCELED
    begin = time.monotonic()
    assert stop(worker) == 0  # idle again, it leaves at once
    assert time.monotonic() - begin < 4
