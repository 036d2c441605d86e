"""Canceling in each state: never both canceled and succeeded."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from core.domain import JobState, Stage
from core.errors import ConflictError, NotFoundError
from tests.support.registry import Bench, make_report


def test_queued_is_canceled_at_once(bench: Bench) -> None:
    scan_id = bench.submit().scan.id
    view = bench.service.request_cancel(bench.org, scan_id)
    assert (view.state, view.cancel_requested) == (JobState.CANCELED, True)
    assert view.finished_at is not None
    assert bench.service.claim(scan_id, "w") is None
    assert bench.service.due(include_published=True) == []


@pytest.mark.parametrize("stage", list(Stage))
def test_running_is_asked_to_stop_in_every_stage(bench: Bench, stage: Stage) -> None:
    claim = bench.claimed()
    bench.service.renew(claim, stage, 0.5, None)
    view = bench.service.request_cancel(bench.org, claim.scan_id)
    assert (view.state, view.cancel_requested) == (JobState.RUNNING, True)
    assert bench.service.cancel_requested(claim).cancel_requested
    assert bench.service.renew(claim, stage, 0.6, None).cancel_requested
    assert bench.service.canceled(claim)
    view = bench.service.get(bench.org, claim.scan_id)
    assert (view.state, view.stage) == (JobState.CANCELED, None)


def test_result_that_comes_after_the_request_is_refused(bench: Bench) -> None:
    claim = bench.claimed()
    bench.service.request_cancel(bench.org, claim.scan_id)
    assert not bench.service.succeed(claim, make_report(claim), [])
    assert bench.service.renew(claim, Stage.PUBLISHING, 1.0, None).alive
    assert bench.service.canceled(claim)
    assert bench.count("scan_result") == 0


@pytest.mark.parametrize(
    "end",
    [
        lambda bench, claim: bench.service.fail(claim, "x", "x", retryable=True),
        lambda bench, claim: bench.service.fail(claim, "x", "x"),
        lambda bench, claim: bench.service.release(claim),
        lambda bench, claim: (bench.age(claim.scan_id, 3600), bench.service.reap()),
    ],
    ids=["retry", "fail", "release", "reap"],
)
def test_request_wins_however_the_attempt_ends(bench: Bench, end: Callable[..., object]) -> None:
    claim = bench.claimed()
    bench.service.request_cancel(bench.org, claim.scan_id)
    assert end(bench, claim)
    view = bench.service.get(bench.org, claim.scan_id)
    assert view.state is JobState.CANCELED
    assert view.error is None


@pytest.mark.parametrize("end", ["retry", "release", "succeed"])
def test_request_and_end_at_the_same_moment(bench: Bench, end: str) -> None:
    """Whoever comes second sees what the first one did: no request is lost, nothing is canceled and succeeded."""
    for seed in range(6):
        claim = bench.claimed(seed=seed)
        ends: dict[str, Callable[[], object]] = {
            "retry": partial(bench.service.fail, claim, "x", "x", retryable=True),
            "release": partial(bench.service.release, claim),
            "succeed": partial(bench.service.succeed, claim, make_report(claim), []),
        }
        barrier = threading.Barrier(2)

        def at_once(act: Callable[[], object], barrier: threading.Barrier = barrier) -> object:
            barrier.wait()
            try:
                return act()
            except ConflictError:
                return None

        with ThreadPoolExecutor(2) as pool:
            cancel = partial(bench.service.request_cancel, bench.org, claim.scan_id)
            canceled, ended = pool.map(at_once, (cancel, ends[end]))
        view = bench.service.get(bench.org, claim.scan_id)
        if end == "succeed":
            assert (canceled is None) == bool(ended) == (view.state is JobState.SUCCEEDED)
        else:
            assert view.state is JobState.CANCELED


def test_nobody_asked(bench: Bench) -> None:
    claim = bench.claimed()
    assert not bench.service.canceled(claim)
    assert bench.service.get(bench.org, claim.scan_id).state is JobState.RUNNING


def test_repeating_it_changes_nothing(bench: Bench) -> None:
    claim = bench.claimed()
    first = bench.service.request_cancel(bench.org, claim.scan_id)
    assert bench.service.request_cancel(bench.org, claim.scan_id) == first
    assert bench.service.canceled(claim)
    assert bench.service.request_cancel(bench.org, claim.scan_id).state is JobState.CANCELED


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_finished_is_a_conflict(bench: Bench, state: JobState) -> None:
    claim = bench.claimed()
    if state is JobState.SUCCEEDED:
        bench.service.succeed(claim, make_report(claim), [])
    else:
        bench.service.fail(claim, "x", "x")
    with pytest.raises(ConflictError) as caught:
        bench.service.request_cancel(bench.org, claim.scan_id)
    assert caught.value.code == "scan_finished"
    view = bench.service.get(bench.org, claim.scan_id)
    assert (view.state, view.cancel_requested) == (state, False)


def test_unknown_scan(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match="scan_not_found"):
        bench.service.request_cancel(bench.org, "scan_nothing")
