"""Deleting scans and models, and what stays; the check of store against registry."""

import os
import threading
import time

import pytest

from core.domain import Verdict
from core.errors import ConflictError, NotFoundError, UnavailableError
from core.jobs.garbage import fsck
from tests.support.registry import Bench, digest

PURIFIED = (b"p.pth", b"p.safetensors")


def stored(bench: Bench) -> set[str]:
    return {blob.sha256 for blob in bench.store.iter()}


def digests(*items: bytes) -> set[str]:
    return {digest(item) for item in items}


def test_deleted_scan_takes_result_artifacts_and_purified_model_along(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED)
    (link,) = bench.service.get_model(bench.org, scan.model_id).purified_to
    bench.service.delete_scan(bench.org, scan.id)
    with pytest.raises(NotFoundError, match="scan_not_found"):
        bench.service.get(bench.org, scan.id)
    with pytest.raises(NotFoundError, match="model_not_found"):
        bench.service.get_model(bench.org, link.model_id)
    assert stored(bench) == digests(b"model", b"reference")
    for table in ("scan_job", "scan_result", "scan_artifact", "scan_event", "lineage"):
        assert bench.count(table) == 0, table
    assert bench.service.get_model(bench.org, scan.model_id).scans == []
    assert not bench.submit().reused


@pytest.mark.parametrize("running", [False, True])
def test_live_scan_cannot_be_deleted(bench: Bench, running: bool) -> None:
    scan = bench.submit().scan
    if running:
        bench.service.claim(scan.id, "w")
    for delete, name in ((bench.service.delete_scan, scan.id), (bench.service.delete_model, scan.model_id)):
        with pytest.raises(ConflictError) as caught:
            delete(bench.org, name)
        assert caught.value.code == "scan_live"
    assert bench.count("scan_job") == 1


def test_artifact_another_scan_also_produced_stays(bench: Bench) -> None:
    first = bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED)
    second = bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED, force=True)
    assert bench.service.get_model(bench.org, first.model_id).purified_to[0].scan_id == second.id
    bench.service.delete_scan(bench.org, first.id)
    assert digests(*PURIFIED) <= stored(bench)
    (link,) = bench.service.get_model(bench.org, second.model_id).purified_to
    assert link.scan_id == second.id
    bench.service.delete_scan(bench.org, second.id)
    assert not digests(*PURIFIED) & stored(bench)


def test_artifact_that_was_uploaded_or_scanned_itself_stays(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED)
    again = bench.finished(PURIFIED[1])
    bench.service.delete_scan(bench.org, scan.id)
    assert stored(bench) == digests(b"model", b"reference", PURIFIED[1])
    view = bench.service.get_model(bench.org, again.model_id)
    assert view.purified_from == []
    assert [(item.sha256, item.available) for item in view.files] == [
        (digest(PURIFIED[0]), False),
        (digest(PURIFIED[1]), True),
    ]


def test_deleted_model_leaves_nothing(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED)
    bench.finished(preset="fast")
    bench.service.delete_model(bench.org, scan.model_id)
    assert stored(bench) == set()
    for table in ("scan_job", "scan_result", "checkpoint", "checkpoint_file", "lineage", "org_blob", "blob"):
        assert bench.count(table) == 0, table


def test_deleted_model_leaves_what_other_models_use(bench: Bench) -> None:
    mine = bench.finished(b"mine")
    other = bench.finished(b"other")
    bench.service.delete_model(bench.org, mine.model_id)
    assert stored(bench) == digests(b"other", b"reference")
    assert bench.service.get(bench.org, other.id) == other


def test_deleting_a_purified_model_leaves_the_suspect_and_its_scan(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED)
    (link,) = bench.service.get_model(bench.org, scan.model_id).purified_to
    bench.service.delete_model(bench.org, link.model_id)
    view = bench.service.get(bench.org, scan.id)
    assert len(view.artifacts) == 2
    assert digests(*PURIFIED) <= stored(bench), "the scan still names them"
    assert bench.service.get_model(bench.org, scan.model_id).purified_to == []


def test_gate_answers_stay_on_record(bench: Bench) -> None:
    scan = bench.finished()
    assert bench.service.gate(bench.org, digest(b"model")).allow
    bench.service.delete_model(bench.org, scan.model_id)
    assert not bench.service.gate(bench.org, digest(b"model")).allow
    assert bench.count("gate_decision") == 2


def test_fsck_removes_old_orphans_and_names_missing(bench: Bench) -> None:
    bench.upload(b"known")
    lost = bench.upload(b"lost")
    bench.store.delete(lost)
    orphan, young = bench.put(b"orphan"), bench.put(b"young")
    past = time.time() - 7200
    for item in (orphan.sha256, digest(b"known")):
        os.utime(bench.store.path(item), (past, past))
    (bench.store.temp_dir / "abandoned").write_bytes(b"half")
    os.utime(bench.store.temp_dir / "abandoned", (past, past))
    found = fsck(bench.db, bench.store)
    assert found.missing == [lost]
    assert (found.orphans_removed, found.temp_removed) == (1, 1)
    assert stored(bench) == {young.sha256, digest(b"known")}


def test_submissions_and_deletions_of_one_model_at_once(bench: Bench) -> None:
    """Each call succeeds or says clearly why not; in the end rows and bytes agree."""
    stop = threading.Event()
    problems: list[Exception] = []

    def submit() -> None:
        while not stop.is_set():
            try:
                scan = bench.submit().scan
                bench.service.request_cancel(bench.org, scan.id)
            except (NotFoundError, ConflictError, UnavailableError):
                continue
            except Exception as error:
                problems.append(error)

    thread = threading.Thread(target=submit)
    thread.start()
    deleted = 0
    end = time.monotonic() + 20
    while deleted < 5 and time.monotonic() < end:
        for scan in bench.service.list(bench.org, limit=1).items:
            try:
                bench.service.delete_model(bench.org, scan.model_id)
                deleted += 1
            except (ConflictError, NotFoundError):
                continue
    stop.set()
    thread.join()
    assert problems == []
    assert deleted == 5
    check = fsck(bench.db, bench.store, grace_s=-1)
    assert (check.missing, check.orphans_removed) == ([], 0)
