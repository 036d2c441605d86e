"""Rules that hold even against code that does not know them."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from core.domain import Verdict
from tests.support.registry import Bench, digest


def refused(bench: Bench, statement: str) -> None:
    with pytest.raises(IntegrityError), bench.db.begin() as session:
        session.execute(text(statement))


@pytest.mark.parametrize(
    "change", ["verdict = 'clean'", "score = 0", "report = '{}'", "purification_status = 'not_needed'"]
)
def test_verdict_cannot_be_changed(bench: Bench, change: str) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED)
    refused(bench, f"UPDATE scan_result SET {change}")
    assert bench.service.get(bench.org, scan.id) == scan


def test_verdict_is_given_once(bench: Bench) -> None:
    scan = bench.finished()
    with pytest.raises(IntegrityError), bench.db.begin() as session:
        session.execute(
            text("INSERT INTO scan_result SELECT * FROM scan_result WHERE scan_id = :id"),
            {"id": scan.id},
        )


@pytest.mark.parametrize("state", ["queued", "running", "failed", "canceled"])
def test_finished_scan_keeps_its_state(bench: Bench, state: str) -> None:
    bench.finished()
    refused(bench, f"UPDATE scan_job SET state = '{state}'")


@pytest.mark.parametrize("statement", ["UPDATE gate_decision SET allow = NOT allow", "DELETE FROM gate_decision"])
def test_gate_log_is_append_only(bench: Bench, statement: str) -> None:
    bench.service.gate(bench.org, digest(b"model"))
    refused(bench, statement)
    assert bench.count("gate_decision") == 1


@pytest.mark.parametrize(
    "change",
    [
        "state = 'sleeping'",
        "stage = 'dreaming'",
        "preset = 'free'",
        "progress = 1.5",
        "progress = -0.5",
        "released = 1",
        "attempt = -1",
        "state = 'running'",
        "state = 'succeeded'",
        "lease_expires_at = created_at",
        "org_id = 'org_nobody'",
        "checkpoint_id = 'model_nothing'",
        "model_sha256 = 'nothing'",
        "created_at = NULL",
    ],
)
def test_impossible_scans(bench: Bench, change: str) -> None:
    bench.submit()
    with pytest.raises(DBAPIError), bench.db.begin() as session:
        session.execute(text(f"UPDATE scan_job SET {change}"))


def test_one_live_scan_of_a_content(bench: Bench) -> None:
    bench.submit()
    bench.submit(force=True)
    refused(bench, "UPDATE scan_job SET forced = FALSE")


def test_blob_in_use_cannot_go(bench: Bench) -> None:
    bench.submit()
    refused(bench, "DELETE FROM blob")
