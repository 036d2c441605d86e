"""The truth table of the gate."""

from dataclasses import replace

import pytest

from core.domain import GateDecision, JobState, Preset, Verdict
from core.policy.gate import PurifiedEvidence, ScanEvidence, decide

CLEAN = ScanEvidence("scan_1", JobState.SUCCEEDED, Verdict.CLEAN, Preset.STANDARD, "e/1", True, True)
BAD = replace(CLEAN, scan_id="scan_2", verdict=Verdict.BACKDOORED)
UNSURE = replace(CLEAN, scan_id="scan_3", verdict=Verdict.INCONCLUSIVE)
UNSURE_ALONE = replace(UNSURE, has_reference=False, reference_fits=False)
CHEAP = replace(CLEAN, preset=Preset.FAST)
THOROUGH = replace(CLEAN, preset=Preset.THOROUGH)
UNFIT = replace(CLEAN, reference_fits=False)
ALONE = replace(CLEAN, has_reference=False, reference_fits=False)
SIBLING_CLEAN = replace(CLEAN, same_digest=False)
SIBLING_BAD = replace(BAD, same_digest=False)
QUEUED = replace(CLEAN, state=JobState.QUEUED, verdict=None)
RUNNING = replace(QUEUED, state=JobState.RUNNING)
FAILED = replace(QUEUED, state=JobState.FAILED)
CANCELED = replace(QUEUED, state=JobState.CANCELED)

PASSED = PurifiedEvidence("scan_4", True, Preset.STANDARD, "e/1", True)
NOT_PASSED = replace(PASSED, passed=False)
PASSED_CHEAP = replace(PASSED, preset=Preset.FAST)
PASSED_UNFIT = replace(PASSED, reference_fits=False)

ALLOW, QUARANTINE, BLOCK = GateDecision.ALLOW, GateDecision.QUARANTINE, GateDecision.BLOCK


@pytest.mark.parametrize(
    ("evidence", "purified", "decision", "codes"),
    [
        ([], [], QUARANTINE, ["unknown"]),
        ([QUEUED], [], QUARANTINE, ["pending"]),
        ([RUNNING], [], QUARANTINE, ["pending"]),
        ([FAILED], [], QUARANTINE, ["failed"]),
        ([CANCELED], [], QUARANTINE, ["canceled"]),
        ([CLEAN], [], ALLOW, ["clean_verified"]),
        ([THOROUGH], [], ALLOW, ["clean_verified"]),
        ([CHEAP], [], QUARANTINE, ["preset_too_low"]),
        ([UNFIT], [], QUARANTINE, ["reference_unfit"]),
        ([ALONE], [], QUARANTINE, ["reference_required"]),
        ([UNSURE], [], QUARANTINE, ["inconclusive"]),
        ([UNSURE_ALONE], [], QUARANTINE, ["inconclusive", "reference_required"]),
        ([BAD], [], BLOCK, ["backdoored"]),
        # several scans
        ([CLEAN, CLEAN], [], ALLOW, ["clean_verified", "clean_verified"]),
        ([CHEAP, CLEAN], [], ALLOW, ["clean_verified"]),
        ([CLEAN, RUNNING, FAILED], [], ALLOW, ["clean_verified"]),
        ([CHEAP, RUNNING], [], QUARANTINE, ["preset_too_low", "pending"]),
        ([FAILED, QUEUED], [], QUARANTINE, ["failed", "pending"]),
        ([CLEAN, UNSURE], [], QUARANTINE, ["inconclusive"]),
        ([CLEAN, UNSURE, BAD], [], BLOCK, ["backdoored"]),
        ([CLEAN, replace(BAD, preset=Preset.FAST)], [], BLOCK, ["backdoored"]),
        ([CLEAN, replace(BAD, engine_version="e/0")], [], BLOCK, ["backdoored"]),
        # another file with the same weights
        ([SIBLING_CLEAN], [], QUARANTINE, ["unknown"]),
        ([replace(QUEUED, same_digest=False)], [], QUARANTINE, ["unknown"]),
        ([CLEAN, SIBLING_BAD], [], BLOCK, ["backdoored"]),
        ([CLEAN, replace(UNSURE, same_digest=False)], [], QUARANTINE, ["inconclusive"]),
        # purified weights
        ([], [PASSED], ALLOW, ["purified_verified"]),
        ([], [NOT_PASSED], QUARANTINE, ["purified_unverified"]),
        ([], [PASSED_CHEAP], QUARANTINE, ["preset_too_low"]),
        ([], [PASSED_UNFIT], QUARANTINE, ["reference_unfit"]),
        ([], [NOT_PASSED, PASSED], ALLOW, ["purified_verified"]),
        ([CLEAN], [NOT_PASSED], ALLOW, ["clean_verified"]),
        ([CLEAN], [PASSED], ALLOW, ["clean_verified", "purified_verified"]),
        ([RUNNING], [PASSED], ALLOW, ["purified_verified"]),
        ([UNSURE], [PASSED], QUARANTINE, ["inconclusive"]),
        ([BAD], [PASSED], BLOCK, ["backdoored"]),
        ([SIBLING_BAD], [PASSED], BLOCK, ["backdoored"]),
    ],
)
def test_truth_table(
    evidence: list[ScanEvidence], purified: list[PurifiedEvidence], decision: GateDecision, codes: list[str]
) -> None:
    answer = decide(evidence, purified)
    assert answer.decision is decision
    assert [reason.code for reason in answer.reasons] == codes
    assert answer.allow == (decision is ALLOW)


def test_order_of_evidence_does_not_matter_for_the_decision() -> None:
    items = [CLEAN, UNSURE, BAD, FAILED]
    assert decide(items, []).decision is decide(items[::-1], []).decision is BLOCK


def test_verdict_counts_only_of_a_succeeded_scan() -> None:
    impossible = replace(CLEAN, state=JobState.RUNNING)
    assert not decide([impossible], []).allow


def test_reasons_name_the_scan_and_say_it_in_words() -> None:
    (reason,) = decide([BAD], []).reasons
    assert reason.scan_id == "scan_2"
    assert reason.text.endswith(".")
    assert decide([], []).reasons[0].scan_id is None


def test_engine_versions_of_all_evidence_are_named_once() -> None:
    answer = decide([CLEAN, replace(FAILED, engine_version="e/0")], [replace(PASSED, engine_version="e/2")])
    assert answer.engine_versions == ("e/0", "e/1", "e/2")
