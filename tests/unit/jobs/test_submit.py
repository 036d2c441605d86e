"""Submitting: what is shared, what is reused, what is refused."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.config import ScanConfig
from core.domain import JobState, Preset, Verdict
from core.errors import NotFoundError, UnavailableError
from core.jobs.service import SubmitScan
from core.storage import Blob
from tests.support.registry import Bench, digest


def test_new_scan_is_queued_and_due(bench: Bench) -> None:
    submitted = bench.submit(filename="my model.pth", seed=7)
    scan = submitted.scan
    assert not submitted.reused
    assert (scan.state, scan.stage, scan.progress, scan.attempt) == (JobState.QUEUED, None, 0.0, 0)
    assert scan.model_filename == "my model.pth"
    assert scan.model_sha256 == digest(b"model")
    assert scan.reference_sha256 == digest(b"reference")
    assert ScanConfig.from_json(scan.config) == ScanConfig(seed=7)
    assert scan.created_at.utcoffset() is not None
    assert bench.service.due() == [scan.id]
    assert bench.service.get(bench.org, scan.id) == scan


def test_ids_are_opaque_and_ordered_by_time(bench: Bench) -> None:
    ids = []
    for seed in range(5):
        ids.append(bench.submit(seed=seed).scan.id)
        threading.Event().wait(0.002)
    assert ids == sorted(ids)
    assert all(item.startswith("scan_") and len(item) == 31 for item in ids)


def test_equal_submission_shares_the_live_scan(bench: Bench) -> None:
    first = bench.submit()
    again = bench.submit()
    assert again.reused
    assert again.scan.id == first.scan.id
    assert bench.service.claim(first.scan.id, "w") is not None
    assert bench.submit().scan.id == first.scan.id


def test_any_difference_in_content_is_another_scan(bench: Bench) -> None:
    scans = [
        bench.submit(),
        bench.submit(b"other model"),
        bench.submit(reference=b"other reference"),
        bench.submit(reference=None),
        bench.submit(seed=1),
        bench.submit(preset=Preset.FAST),
    ]
    assert len({item.scan.id for item in scans}) == len(scans)
    assert not any(item.reused for item in scans)


def test_another_engine_version_is_another_scan(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    old = bench.finished()
    monkeypatch.setattr("core.jobs.service.ENGINE_VERSION", "next/1")
    new = bench.submit()
    assert not new.reused
    assert new.scan.engine_version == "next/1" != old.engine_version


def test_result_is_reused_and_force_computes_again(bench: Bench) -> None:
    done = bench.finished(verdict=Verdict.BACKDOORED)
    again = bench.submit()
    assert again.reused
    assert (again.scan.id, again.scan.verdict) == (done.id, Verdict.BACKDOORED)
    forced = bench.submit(force=True)
    assert not forced.reused
    assert forced.scan.state is JobState.QUEUED
    # the live forced scan does not hide the result
    assert bench.submit().scan.id == done.id


def test_forced_scans_do_not_share(bench: Bench) -> None:
    bench.submit()
    first, second = bench.submit(force=True), bench.submit(force=True)
    assert first.scan.id != second.scan.id


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_unsuccessful_scan_is_not_reused(bench: Bench, end: str) -> None:
    claim = bench.claimed()
    if end == "failed":
        bench.service.fail(claim, "unsupported_x", "no")
    else:
        bench.service.request_cancel(bench.org, claim.scan_id)
        assert bench.service.canceled(claim)
    again = bench.submit()
    assert not again.reused
    assert again.scan.id != claim.scan_id


def test_scan_that_is_being_canceled_is_not_shared(bench: Bench) -> None:
    claim = bench.claimed()
    bench.service.request_cancel(bench.org, claim.scan_id)
    assert bench.submit().scan.id != claim.scan_id


def test_unknown_blobs_are_refused_and_leave_no_row(bench: Bench) -> None:
    known = bench.upload()
    for request in (
        SubmitScan("0" * 64, "m", known, ScanConfig()),
        SubmitScan(known, "m", "0" * 64, ScanConfig()),
    ):
        with pytest.raises(NotFoundError) as caught:
            bench.service.submit(bench.org, request)
        assert caught.value.code == "blob_not_found"
    assert bench.count("scan_job") == 0


def test_blob_must_be_in_the_store_to_be_registered(bench: Bench) -> None:
    with pytest.raises(UnavailableError, match="blob_vanished"):
        bench.service.register_blob(bench.org, Blob("0" * 64, 1))
    assert not bench.service.has_blob(bench.org, "0" * 64)


def test_filename_that_a_database_cannot_hold_is_cut(bench: Bench) -> None:
    scan = bench.submit(filename="a\0b" + "c" * 400).scan
    assert scan.model_filename.startswith("abc")
    assert len(scan.model_filename) == 255


def test_concurrent_equal_submissions_share_one_job(bench: Bench) -> None:
    bench.upload(b"model")
    bench.upload(b"reference")
    request = SubmitScan(digest(b"model"), "m", digest(b"reference"), ScanConfig())
    barrier = threading.Barrier(8)

    def submit(_: int) -> tuple[str, bool]:
        barrier.wait()
        found = bench.service.submit(bench.org, request)
        return found.scan.id, found.reused

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(8)))
    assert len({scan_id for scan_id, _ in answers}) == 1
    assert sorted(reused for _, reused in answers) == [False] + [True] * 7
    assert bench.count("scan_job") == bench.count("checkpoint") == 1
