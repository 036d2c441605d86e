"""Claims, leases, fencing, retries and the reaper."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from core.domain import JobState, Stage
from core.errors import UnavailableError
from core.jobs.leases import MAX_EVENTS
from core.jobs.service import ClaimedJob
from tests.support.registry import Bench, make_report


def reclaimed(bench: Bench, claim: ClaimedJob) -> ClaimedJob:
    """The lease of `claim` runs out and somebody else takes the scan."""
    bench.age(claim.scan_id, 3600)
    assert bench.service.reap() == [claim.scan_id]
    again = bench.service.claim(claim.scan_id, "second")
    assert again is not None
    return again


def test_claim_counts_the_attempt_before_the_work(bench: Bench) -> None:
    scan = bench.submit().scan
    claim = bench.service.claim(scan.id, "host:1")
    assert claim is not None
    assert (claim.token, claim.org_id, claim.config) == (1, bench.org, scan.config)
    assert (claim.model_sha256, claim.reference_sha256) == (scan.model_sha256, scan.reference_sha256)
    view = bench.service.get(bench.org, scan.id)
    assert (view.state, view.stage, view.attempt) == (JobState.RUNNING, Stage.FETCHING, 1)
    assert view.started_at is not None
    assert claim.deadline_at - view.started_at == timedelta(seconds=bench.settings.deadline_s)


def test_only_queued_scans_can_be_claimed(bench: Bench) -> None:
    claim = bench.claimed()
    assert bench.service.claim(claim.scan_id, "second") is None
    assert bench.service.claim("scan_unknown", "second") is None
    assert bench.service.succeed(claim, make_report(claim), [])
    assert bench.service.claim(claim.scan_id, "second") is None


def test_concurrent_claims_give_the_scan_to_one(bench: Bench) -> None:
    ids = [bench.submit(seed=seed).scan.id for seed in range(4)]
    barrier = threading.Barrier(8)

    def take(worker: int) -> list[str]:
        barrier.wait()
        return [scan_id for scan_id in ids if bench.service.claim(scan_id, f"worker {worker}") is not None]

    with ThreadPoolExecutor(8) as pool:
        taken = [scan_id for claims in pool.map(take, range(8)) for scan_id in claims]
    assert sorted(taken) == ids
    assert {bench.service.get(bench.org, scan_id).attempt for scan_id in ids} == {1}


def test_renewal_reports_progress_and_keeps_the_lease(bench: Bench) -> None:
    claim = bench.claimed()
    bench.age(claim.scan_id, 3600)
    renewal = bench.service.renew(claim, Stage.INVERTING, 0.25, 12.5)
    assert (renewal.alive, renewal.cancel_requested) == (True, False)
    assert bench.service.reap() == []
    view = bench.service.get(bench.org, claim.scan_id)
    assert (view.stage, view.progress, view.eta_s) == (Stage.INVERTING, 0.25, 12.5)


@pytest.mark.parametrize(("given", "kept"), [(-1.0, 0.0), (7.0, 1.0)])
def test_progress_stays_a_fraction(bench: Bench, given: float, kept: float) -> None:
    claim = bench.claimed()
    assert bench.service.renew(claim, Stage.LOADING, given, None).alive
    assert bench.service.get(bench.org, claim.scan_id).progress == kept


def test_expired_lease_is_queued_again_at_once(bench: Bench) -> None:
    claim = bench.claimed()
    bench.service.renew(claim, Stage.INVERTING, 0.5, 3.0)
    assert bench.service.reap() == []
    bench.age(claim.scan_id, 3600)
    assert bench.service.reap() == [claim.scan_id]
    view = bench.service.get(bench.org, claim.scan_id)
    assert (view.state, view.stage, view.progress, view.eta_s) == (JobState.QUEUED, None, 0.0, None)
    assert bench.service.due() == [claim.scan_id]
    assert bench.service.reap() == []


def test_worker_that_dies_again_and_again_fails_the_scan(bench_with: Callable[..., Bench]) -> None:
    bench = bench_with(max_attempts=2)
    claim = bench.claimed()
    second = reclaimed(bench, claim)
    bench.age(claim.scan_id, 3600)
    assert bench.service.reap() == [claim.scan_id]
    view = bench.service.get(bench.org, claim.scan_id)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert view.error.code == "worker_lost"
    assert view.attempt == second.token == 2
    assert bench.service.due() == []


def test_everything_a_fenced_worker_writes_is_discarded(bench: Bench) -> None:
    old = bench.claimed()
    new = reclaimed(bench, old)
    assert new.token == old.token + 1
    before = bench.service.get(bench.org, old.scan_id)
    service = bench.service
    assert not service.renew(old, Stage.VERIFYING, 0.9, 1.0).alive
    assert not service.cancel_requested(old).alive
    assert not service.record_event(old, {"event": "note"})
    assert not service.succeed(old, make_report(old), [])
    assert service.fail(old, "x", "x") is None
    assert service.fail(old, "x", "x", retryable=True) is None
    assert not service.canceled(old)
    assert not service.release(old)
    assert service.get(bench.org, old.scan_id) == before
    assert bench.count("scan_result") == 0
    assert service.succeed(new, make_report(new), [])


def test_second_commit_of_the_same_claim_is_discarded(bench: Bench) -> None:
    claim = bench.claimed()
    assert bench.service.succeed(claim, make_report(claim), [])
    assert not bench.service.succeed(claim, make_report(claim), [])
    assert bench.service.fail(claim, "x", "x") is None
    assert bench.count("scan_result") == 1


def test_missing_artifact_commits_nothing(bench: Bench) -> None:
    from core.domain import ArtifactRole

    claim = bench.claimed()
    artifact = bench.artifact(ArtifactRole.TRIGGER_IMAGE, b"image")
    bench.store.delete(artifact.sha256)
    with pytest.raises(UnavailableError, match="artifact_missing"):
        bench.service.succeed(claim, make_report(claim, artifacts=[artifact]), [artifact])
    assert bench.service.get(bench.org, claim.scan_id).state is JobState.RUNNING
    assert bench.count("scan_result") == 0


def test_final_failure_keeps_code_detail_and_hint(bench: Bench) -> None:
    claim = bench.claimed()
    assert bench.service.fail(claim, "unsafe_pickle", "It runs\0 code.", "Use safetensors.") is JobState.FAILED
    view = bench.service.get(bench.org, claim.scan_id)
    assert view.state is JobState.FAILED
    assert view.error is not None
    assert (view.error.code, view.error.detail, view.error.hint) == (
        "unsafe_pickle",
        "It runs code.",
        "Use safetensors.",
    )
    assert view.verdict is None
    assert view.finished_at is not None


def test_retryable_failures_back_off_and_end(bench_with: Callable[..., Bench]) -> None:
    bench = bench_with(max_attempts=3)
    scan_id = bench.submit().scan.id
    for wait_s in (10, 20):
        claim = bench.service.claim(scan_id, "w")
        assert claim is not None
        assert bench.service.fail(claim, "storage_full", "full", retryable=True) is JobState.QUEUED
        assert bench.service.get(bench.org, scan_id).error is None
        bench.age(scan_id, wait_s - 2)
        assert bench.service.claim(scan_id, "w") is None
        assert bench.service.due() == []
        bench.age(scan_id, 2)
        assert bench.service.due() == [scan_id]
    claim = bench.service.claim(scan_id, "w")
    assert claim is not None
    assert bench.service.fail(claim, "storage_full", "full", retryable=True) is JobState.FAILED


def test_released_attempts_do_not_count_but_still_fence(bench_with: Callable[..., Bench]) -> None:
    bench = bench_with(max_attempts=1)
    scan_id = bench.submit().scan.id
    tokens = []
    for _ in range(3):
        claim = bench.service.claim(scan_id, "draining")
        assert claim is not None
        tokens.append(claim.token)
        assert bench.service.release(claim)
        assert not bench.service.release(claim)
        assert bench.service.due() == [scan_id]
    assert tokens == [1, 2, 3]
    assert bench.service.claim(scan_id, "dying") is not None
    bench.age(scan_id, 3600)
    bench.service.reap()
    assert bench.service.get(bench.org, scan_id).state is JobState.FAILED


def test_due_lists_what_was_never_or_long_ago_announced(bench: Bench) -> None:
    first, second = bench.submit(seed=1).scan.id, bench.submit(seed=2).scan.id
    bench.service.mark_published(first)
    assert bench.service.due() == [second]
    assert bench.service.due(include_published=True) == sorted([first, second])
    assert len(bench.service.due(1, include_published=True)) == 1
    bench.age(first, bench.settings.republish_s + 1)
    assert first in bench.service.due()
    assert bench.service.claim(first, "w") is not None
    assert bench.service.due(include_published=True) == [second]


def test_events_are_numbered_and_capped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_EVENTS >= 100
    monkeypatch.setattr("core.jobs.leases.MAX_EVENTS", 4)
    claim = bench.claimed()
    kept = [bench.service.record_event(claim, {"event": "note", "message": str(i)}) for i in range(5)]
    assert kept == [True, True, True, False, False]
    events = bench.service.events(bench.org, claim.scan_id)
    assert [item.seq for item in events] == [1, 2, 3, 4]
    assert [item.payload["event"] for item in events] == ["claimed", "note", "note", "note"]
    assert [item.seq for item in bench.service.events(bench.org, claim.scan_id, after=3)] == [4]


def test_very_large_event_is_cut_to_its_name(bench: Bench) -> None:
    claim = bench.claimed()
    assert bench.service.record_event(claim, {"event": "note", "message": "x" * 100_000})
    assert bench.service.events(bench.org, claim.scan_id)[-1].payload == {"event": "note", "truncated": True}
