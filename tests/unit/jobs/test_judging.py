"""The gate over the registry: evidence gathered, answers recorded."""

import pytest

from core import ENGINE_VERSION
from core.domain import GateDecision, Preset, Verdict
from core.errors import InvalidInputError, UnavailableError
from core.jobs.service import GateAnswer
from tests.support.registry import Bench, digest, make_report

PURIFIED = (b"p.pth", b"p.safetensors")


def ask(bench: Bench, data: bytes = b"model") -> tuple[GateDecision, list[str]]:
    answer = bench.service.gate(bench.org, digest(data))
    assert isinstance(answer, GateAnswer)
    assert answer.allow == (answer.decision is GateDecision.ALLOW)
    return answer.decision, [reason.code for reason in answer.reasons]


def test_unknown_then_pending_then_clean(bench: Bench) -> None:
    assert ask(bench) == (GateDecision.QUARANTINE, ["unknown"])
    bench.upload()
    assert ask(bench) == (GateDecision.QUARANTINE, ["unknown"])
    bench.submit()
    assert ask(bench) == (GateDecision.QUARANTINE, ["pending"])
    claim = bench.service.claim(bench.submit().scan.id, "w")
    assert claim is not None
    assert ask(bench) == (GateDecision.QUARANTINE, ["pending"])
    bench.service.succeed(claim, make_report(claim), [])
    assert ask(bench) == (GateDecision.ALLOW, ["clean_verified"])
    assert bench.service.gate(bench.org, digest(b"model")).engine_versions == (ENGINE_VERSION,)


def test_failed_and_canceled(bench: Bench) -> None:
    bench.service.fail(bench.claimed(), "unsupported_container", "no")
    assert ask(bench) == (GateDecision.QUARANTINE, ["failed"])
    bench.service.request_cancel(bench.org, bench.submit().scan.id)
    assert sorted(ask(bench)[1]) == ["canceled", "failed"]


def test_cheap_scan_and_unfit_reference_do_not_acquit(bench: Bench) -> None:
    bench.finished(preset=Preset.FAST)
    assert ask(bench) == (GateDecision.QUARANTINE, ["preset_too_low"])
    bench.finished(b"other", accuracy=0.2)
    assert ask(bench, b"other") == (GateDecision.QUARANTINE, ["reference_unfit"])


def test_inconclusive_without_reference_says_so(bench: Bench) -> None:
    bench.finished(verdict=Verdict.INCONCLUSIVE, reference=None)
    assert ask(bench) == (GateDecision.QUARANTINE, ["inconclusive", "reference_required"])


def test_worst_verdict_wins(bench: Bench) -> None:
    bench.finished()
    assert ask(bench)[0] is GateDecision.ALLOW
    bench.finished(verdict=Verdict.INCONCLUSIVE, seed=1)
    assert ask(bench) == (GateDecision.QUARANTINE, ["inconclusive"])
    bench.finished(verdict=Verdict.BACKDOORED, seed=2, preset=Preset.FAST)
    assert ask(bench) == (GateDecision.BLOCK, ["backdoored"])


def test_both_purified_files_are_allowed_and_the_suspect_is_not(bench: Bench) -> None:
    bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED)
    assert ask(bench) == (GateDecision.BLOCK, ["backdoored"])
    for item in PURIFIED:
        assert ask(bench, item) == (GateDecision.ALLOW, ["purified_verified"])


def test_purified_without_passing_its_scan(bench: Bench) -> None:
    bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED, passed=False)
    assert ask(bench, PURIFIED[0]) == (GateDecision.QUARANTINE, ["purified_unverified"])


def test_purified_by_a_cheap_scan(bench: Bench) -> None:
    bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED, preset=Preset.FAST)
    assert ask(bench, PURIFIED[0]) == (GateDecision.QUARANTINE, ["preset_too_low"])


def test_purified_weights_later_found_backdoored_block_both_files(bench: Bench) -> None:
    bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED)
    bench.finished(PURIFIED[1], Verdict.BACKDOORED)
    for item in PURIFIED:
        assert ask(bench, item) == (GateDecision.BLOCK, ["backdoored"])


def test_clean_verdict_on_one_file_does_not_acquit_the_other(bench: Bench) -> None:
    bench.finished(verdict=Verdict.BACKDOORED, purified=PURIFIED, passed=False)
    bench.finished(PURIFIED[1])
    assert ask(bench, PURIFIED[1])[0] is GateDecision.ALLOW
    assert ask(bench, PURIFIED[0]) == (GateDecision.QUARANTINE, ["purified_unverified"])


def test_another_file_with_other_weights_is_no_evidence(bench: Bench) -> None:
    bench.finished(b"good")
    assert ask(bench, b"good2") == (GateDecision.QUARANTINE, ["unknown"])


def test_evidence_of_all_engine_versions_counts(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.finished(verdict=Verdict.BACKDOORED)
    monkeypatch.setattr("core.jobs.service.ENGINE_VERSION", "next/1")
    bench.finished()
    answer = bench.service.gate(bench.org, digest(b"model"))
    assert answer.decision is GateDecision.BLOCK
    assert answer.engine_versions == (ENGINE_VERSION, "next/1")


def test_every_answer_is_recorded(bench: Bench) -> None:
    for _ in range(3):
        ask(bench)
    assert bench.count("gate_decision") == 3


def test_not_a_digest(bench: Bench) -> None:
    with pytest.raises(InvalidInputError, match="invalid_digest"):
        bench.service.gate(bench.org, "../../etc/passwd")


def test_database_that_cannot_answer_raises(bench: Bench) -> None:
    from sqlalchemy import text

    with bench.db.begin() as session:
        session.execute(text("ALTER TABLE gate_decision RENAME TO elsewhere"))
    try:
        with pytest.raises(UnavailableError):
            bench.service.gate(bench.org, digest(b"model"))
    finally:
        with bench.db.begin() as session:
            session.execute(text("ALTER TABLE elsewhere RENAME TO gate_decision"))
