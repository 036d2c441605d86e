"""Attempts from claim to commit: real database, real child processes, in this process's threads."""

import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from core.domain import JobState, Verdict
from core.errors import UnavailableError
from core.storage.local import LocalBlobStore
from tests.support.children import fake_children
from tests.support.jobs import ORG, Desk, desk
from tests.support.processes import wait_until
from worker.main import runner_options
from worker.runner import Runner, RunnerOptions


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


def make_runner(office: Desk, **options: object) -> Runner:
    quick: RunnerOptions = replace(
        runner_options(office.settings), **{"cancel_poll_s": 0.05, "kill_grace_s": 0.5, **options}
    )
    return Runner(office.service, office.store, quick, office.desk, commands=fake_children())


class Background(threading.Thread):
    """runner.run in a thread, its answer kept."""

    def __init__(self, runner: Runner, scan_id: str) -> None:
        super().__init__(daemon=True)
        self.runner, self.scan_id = runner, scan_id
        self.answer: object = "unfinished"
        self.start()

    def run(self) -> None:
        self.answer = self.runner.run(self.scan_id)

    def result(self) -> object:
        self.join(60)
        return self.answer


def test_a_scan_succeeds_with_its_report_and_artifact(office: Desk) -> None:
    scan = office.submit()
    assert make_runner(office).run(scan) is JobState.SUCCEEDED
    view = office.view(scan)
    assert (view.state, view.verdict, view.progress, view.attempt) == (
        JobState.SUCCEEDED,
        Verdict.BACKDOORED,
        1.0,
        1,
    )
    assert office.service.report(ORG, scan)["model"]["sha256"] == view.model_sha256
    (digest,) = office.artifacts_of(scan)
    assert office.store.open_verified(digest).read() == f"purified {view.model_sha256}".encode()
    assert office.left_overs() == []


def test_a_duplicate_message_has_no_effect(office: Desk) -> None:
    scan = office.submit()
    runner = make_runner(office)
    runner.run(scan)
    assert runner.run(scan) is None
    assert len(office.logged("started", scan)) == 1


def test_two_messages_at_once_have_one_effect(office: Desk) -> None:
    scan = office.submit(stages={"inverting": 0.3})
    runs = [Background(make_runner(office), scan) for _ in range(4)]
    assert sorted(str(run.result()) for run in runs) == ["None", "None", "None", "succeeded"]
    assert len(office.logged("started", scan)) == 1


def test_a_message_about_nothing_is_dropped(office: Desk) -> None:
    assert make_runner(office).run("scan_unknown") is None


def test_stage_progress_and_notes_reach_the_row(office: Desk) -> None:
    scan = office.submit(stages={"inverting": 0.6})
    run = Background(make_runner(office, renew_s=0.1), scan)
    office.wait_for_stage(scan, "inverting")
    wait_until(lambda: 0.1 < office.view(scan).progress < 1, 5)
    assert run.result() is JobState.SUCCEEDED
    stages = [e.payload["stage"] for e in office.service.events(ORG, scan) if e.payload["event"] == "stage"]
    assert [*dict.fromkeys(stages)] == [
        "fetching",
        "loading",
        "inverting",
        "detecting",
        "unlearning",
        "verifying",
        "publishing",
    ]


@pytest.mark.parametrize("stage", ["loading", "inverting", "detecting", "unlearning", "verifying", "publishing"])
def test_a_cancel_is_heard_in_each_stage(office: Desk, stage: str) -> None:
    scan = office.submit(stages={stage: 60})
    run = Background(make_runner(office), scan)
    office.wait_for_stage(scan, stage)
    office.service.request_cancel(ORG, scan)
    asked = time.monotonic()
    assert run.result() is JobState.CANCELED
    assert time.monotonic() - asked < 5
    view = office.view(scan)
    assert (view.state, view.verdict, view.artifacts) == (JobState.CANCELED, None, [])
    assert office.logged("stopped", scan)
    assert office.left_overs() == []


def test_a_cancel_is_heard_while_fetching(office: Desk) -> None:
    scan = office.submit(stages={"loading": 60})

    class Slow(LocalBlobStore):
        """Somebody cancels while the model is being read."""

        def open_verified(self, sha256: str) -> BinaryIO:
            assert office.view(scan).stage == "fetching"
            office.service.request_cancel(ORG, scan)
            return super().open_verified(sha256)

    options = replace(runner_options(office.settings), cancel_poll_s=0.05)
    runner = Runner(office.service, Slow(office.settings.blobs_dir), options, office.desk, commands=fake_children())
    assert runner.run(scan) is JobState.CANCELED
    assert office.left_overs() == []


def test_a_full_disk_publishes_nothing_and_is_tried_again(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.jobs.leases._BACKOFF_S", 0)
    scan = office.submit()
    full = LocalBlobStore(office.settings.blobs_dir, reserve_bytes=2**62)
    runner = Runner(office.service, full, runner_options(office.settings), office.desk, commands=fake_children())
    assert runner.run(scan) is JobState.QUEUED
    assert office.artifacts_of(scan) == []
    assert make_runner(office).run(scan) is JobState.SUCCEEDED  # room was made


def test_a_cancel_before_the_claim_leaves_nothing_to_claim(office: Desk) -> None:
    scan = office.submit()
    office.service.request_cancel(ORG, scan)
    assert make_runner(office).run(scan) is None
    assert office.state(scan) is JobState.CANCELED


def test_a_cancel_of_a_deaf_child_kills_it(office: Desk) -> None:
    scan = office.submit(stages={"inverting": 60}, ignore_term=True)
    run = Background(make_runner(office), scan)
    office.wait_for_stage(scan, "inverting")
    office.service.request_cancel(ORG, scan)
    assert run.result() is JobState.CANCELED


def test_the_deadline_ends_a_scan(office: Desk) -> None:
    scan = office.submit(stages={"inverting": 60})
    assert make_runner(office, deadline_s=0.5).run(scan) is JobState.FAILED
    error = office.view(scan).error
    assert error is not None
    assert error.code == "deadline_exceeded"


def test_a_refused_model_fails_without_a_verdict(office: Desk) -> None:
    scan = office.submit(fail={"code": "unsupported_architecture", "detail": "None fits.", "hint": "Name it."})
    assert make_runner(office).run(scan) is JobState.FAILED
    view = office.view(scan)
    assert view.error is not None
    assert (view.error.code, view.error.hint, view.verdict) == ("unsupported_architecture", "Name it.", None)


def test_a_killed_child_is_tried_again_and_then_succeeds(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.jobs.leases._BACKOFF_S", 0)
    scan = office.submit(die={"in": "inverting", "signal": int(signal.SIGKILL), "times": 1})
    runner = make_runner(office)
    assert runner.run(scan) is JobState.QUEUED
    assert runner.run(scan) is JobState.SUCCEEDED
    assert office.view(scan).attempt == 2
    assert len(office.logged("finished", scan)) == 1


@pytest.mark.parametrize("where", ["parse", "loading"])
def test_a_file_that_kills_every_child_does_not_loop(office: Desk, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    monkeypatch.setattr("core.jobs.leases._BACKOFF_S", 0)
    scan = office.submit(die={"in": where, "signal": int(signal.SIGSEGV), "times": 99})
    runner = make_runner(office)
    states = [runner.run(scan) for _ in range(5)]
    assert states == [JobState.QUEUED, JobState.QUEUED, JobState.FAILED, None, None]
    error = office.view(scan).error
    assert error is not None
    assert error.code == "worker_child_died"
    assert "SIGSEGV" in error.detail
    assert make_runner(office).run(office.submit()) is JobState.SUCCEEDED  # the next scan is none the worse


def test_a_child_killed_from_outside_is_retried(office: Desk) -> None:
    import os

    scan = office.submit(stages={"inverting": 60})
    run = Background(make_runner(office), scan)
    office.wait_for_stage(scan, "inverting")
    os.kill(office.logged("started", scan)[0], signal.SIGKILL)
    assert run.result() is JobState.QUEUED
    assert office.service.due(10) == []  # it backs off first


def test_draining_puts_the_scan_back_uncharged_and_announces_it(office: Desk) -> None:
    scan = office.submit(stages={"inverting": 60})
    announced: list[str] = []
    runner = Runner(
        office.service,
        office.store,
        replace(runner_options(office.settings), kill_grace_s=0.5),
        office.desk,
        commands=fake_children(),
        announce=announced.append,
    )
    run = Background(runner, scan)
    office.wait_for_stage(scan, "inverting")
    runner.drain()
    assert run.result() is JobState.QUEUED
    assert announced == [scan]
    assert office.state(scan) is JobState.QUEUED
    assert runner.run(scan) is None  # it takes no more
    for _ in range(office.settings.max_attempts + 1):  # drained as often as it may be
        other = make_runner(office)
        again = Background(other, scan)
        office.wait_for_stage(scan, "inverting")
        other.drain()
        assert again.result() is JobState.QUEUED


def test_a_lost_claim_kills_the_child_and_discards_its_work(office: Desk) -> None:
    scan = office.submit(stages={"inverting": 60})
    run = Background(make_runner(office, renew_s=0.2), scan)
    office.wait_for_stage(scan, "inverting")
    # Somebody else takes over, as after a lease that ran out.
    from sqlalchemy import text

    with office.db.begin() as session:
        session.execute(text("UPDATE scan_job SET attempt = attempt + 1 WHERE id = :id"), {"id": scan})
    assert run.result() is None
    assert office.logged("stopped", scan) == []  # killed, not asked
    assert office.state(scan) is JobState.RUNNING
    assert office.left_overs() == []


def test_a_changed_blob_is_noticed_before_anything_reads_it(office: Desk) -> None:
    scan = office.submit()
    path = office.store.path(office.view(scan).model_sha256)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    assert make_runner(office).run(scan) is JobState.FAILED
    error = office.view(scan).error
    assert error is not None
    assert error.code == "blob_corrupt"
    assert office.logged("started", scan) == []


@pytest.mark.parametrize("tamper", ["artifact", "digest", "schema", "link"])
def test_a_result_that_does_not_add_up_is_a_failure(office: Desk, tamper: str) -> None:
    scan = office.submit(tamper=tamper)
    assert make_runner(office).run(scan) is JobState.FAILED
    view = office.view(scan)
    assert view.error is not None
    assert (view.error.code, view.artifacts, view.verdict) == ("invalid_result", [], None)


class Outage:
    """The job service with a database that goes away for some calls."""

    def __init__(self, service: object, calls: tuple[str, ...], times: int) -> None:
        self._service, self._calls, self.left = service, calls, times

    def __getattr__(self, name: str) -> object:
        method = getattr(self._service, name)
        if name not in self._calls:
            return method

        def broken(*args: object, **kwargs: object) -> object:
            if self.left > 0:
                self.left -= 1
                raise UnavailableError("database_unavailable", "away")
            return method(*args, **kwargs)

        return broken


def test_a_database_that_is_away_for_a_while_costs_nothing(office: Desk) -> None:
    scan = office.submit(stages={"inverting": 0.6})
    outage = Outage(office.service, ("renew", "cancel_requested", "record_event", "succeed"), times=5)
    options = replace(runner_options(office.settings), renew_s=0.1, cancel_poll_s=0.05)
    runner = Runner(outage, office.store, options, office.desk, commands=fake_children())  # type: ignore[arg-type]
    assert runner.run(scan) is JobState.SUCCEEDED
    assert outage.left == 0
    assert office.view(scan).attempt == 1


def test_a_database_that_stays_away_leaves_the_scan_to_the_sweeper(office: Desk) -> None:
    scan = office.submit()
    outage = Outage(office.service, ("succeed", "fail"), times=10_000)
    options = replace(runner_options(office.settings), commit_patience_s=0.5)
    runner = Runner(outage, office.store, options, office.desk, commands=fake_children())  # type: ignore[arg-type]
    with pytest.raises(UnavailableError):
        runner.run(scan)
    assert office.left_overs() == []
    wait_until(lambda: office.service.reap() == [scan], 5)
    assert make_runner(office).run(scan) is JobState.SUCCEEDED
