"""Celery on memory:// in this process, with stand-in children."""

import threading
import time
from pathlib import Path

import pytest

from core.domain import JobState
from core.errors import InvalidInputError
from core.settings import Settings
from tests.support.children import fake_children
from tests.support.jobs import desk
from worker.dispatch import publish_after_commit
from worker.embedded import EmbeddedWorker
from worker.main import run_sweeper, run_worker


def test_it_starts_and_stops_within_a_second_each_again_and_again(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        threads = threading.active_count()
        for _ in range(3):
            worker = EmbeddedWorker(
                office.settings, office.service, office.desk, office.store, commands=fake_children()
            )
            begin = time.monotonic()
            worker.start()
            ready = time.monotonic()
            worker.stop()
            end = time.monotonic()
            assert ready - begin < 1
            assert end - ready < 1
        assert threading.active_count() <= threads + 1


def test_scans_are_done_in_turn_and_once(tmp_path: Path) -> None:
    with desk(tmp_path, republish_s=30) as office:
        worker = EmbeddedWorker(office.settings, office.service, office.desk, office.store, commands=fake_children())
        worker.start()
        try:
            scans = [office.submit() for _ in range(3)]
            for scan in scans:
                assert publish_after_commit(office.service, worker.dispatcher, scan)
                worker.dispatcher.publish(scan)  # a duplicate
            for scan in scans:
                assert office.wait(scan).state is JobState.SUCCEEDED
                assert len(office.logged("started", scan)) == 1
        finally:
            worker.stop()


def test_what_was_queued_or_announced_before_the_start_is_found(tmp_path: Path) -> None:
    with desk(tmp_path, republish_s=600) as office:
        unannounced, announced = office.submit(), office.submit()
        office.service.mark_published(announced)  # to a queue in memory that is gone
        worker = EmbeddedWorker(office.settings, office.service, office.desk, commands=fake_children())
        worker.start()
        try:
            for scan in (unannounced, announced):
                assert office.wait(scan).state is JobState.SUCCEEDED
        finally:
            worker.stop()


def test_stopping_puts_a_running_scan_back(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        scan = office.submit(stages={"inverting": 60})
        worker = EmbeddedWorker(office.settings, office.service, office.desk, office.store, commands=fake_children())
        worker.start()
        office.wait_for_stage(scan, "inverting")
        begin = time.monotonic()
        worker.stop()
        assert time.monotonic() - begin < 3
        assert office.state(scan) is JobState.QUEUED
        assert office.logged("stopped", scan)
        assert office.left_overs() == []


def test_an_error_in_one_message_does_not_stop_the_next(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        worker = EmbeddedWorker(office.settings, office.service, office.desk, office.store, commands=fake_children())
        worker.start()
        try:
            worker.dispatcher.publish({"not": "an id"})  # type: ignore[arg-type]
            scan = office.submit()
            worker.dispatcher.publish(scan)
            assert office.wait(scan).state is JobState.SUCCEEDED
        finally:
            worker.stop()


@pytest.mark.parametrize("run", [run_worker, run_sweeper])
def test_separate_processes_need_a_broker(tmp_path: Path, run) -> None:
    with pytest.raises(InvalidInputError) as caught:
        run(Settings(data_dir=tmp_path, broker_url=None))
    assert caught.value.code == "broker_required"
