"""May this digest be used? A pure decision over what is known about it; what is not known is never allowed."""

from collections.abc import Sequence
from dataclasses import dataclass

from core.domain import GateDecision, JobState, Preset, Verdict

#: Part of every answer: a digest allowed by one policy is not thereby allowed by the next.
POLICY_VERSION = "builtin/1"

#: Cheaper scans than this may accuse but not acquit.
MINIMUM_PRESET = Preset.STANDARD

_WORDS = {
    "unknown": "No scan of this file is known.",
    "pending": "A scan of this file is not finished.",
    "failed": "A scan of this file failed, so that there is no verdict.",
    "canceled": "A scan of this file was canceled, so that there is no verdict.",
    "backdoored": "A scan found a backdoor.",
    "inconclusive": "A scan could not decide.",
    "preset_too_low": f"The scan was cheaper than the preset '{MINIMUM_PRESET}', which an acquittal needs.",
    "reference_required": "The scan had no reference images, without which no model is called clean.",
    "reference_unfit": "The reference images do not fit the model: it is hardly better than chance on them.",
    "purified_unverified": "The purified weights did not pass their own scan.",
    "clean_verified": "A scan with enough computation and a fitting reference set found no backdoor.",
    "purified_verified": "These are purified weights that passed their own scan.",
}


@dataclass(frozen=True, slots=True)
class ScanEvidence:
    """One scan of the digest, or of another file with the same weights."""

    scan_id: str
    state: JobState
    verdict: Verdict | None  # of a succeeded scan
    preset: Preset
    engine_version: str
    has_reference: bool
    reference_fits: bool
    same_digest: bool = True  # False: a sibling file with the same weights; it may accuse but not acquit


@dataclass(frozen=True, slots=True)
class PurifiedEvidence:
    """One scan that produced the digest as purified weights."""

    scan_id: str
    passed: bool  # its own re-scan
    preset: Preset
    engine_version: str
    reference_fits: bool


@dataclass(frozen=True, slots=True)
class GateReason:
    """Why; `code` is stable, `text` is for people."""

    code: str
    text: str
    scan_id: str | None = None


@dataclass(frozen=True, slots=True)
class GateAnswer:
    """The decision on one digest. `allow` is true for the decision `allow` only."""

    allow: bool
    decision: GateDecision
    reasons: tuple[GateReason, ...]
    engine_versions: tuple[str, ...] = ()  # of the evidence considered
    policy_version: str = POLICY_VERSION


def decide(evidence: Sequence[ScanEvidence], purified: Sequence[PurifiedEvidence]) -> GateAnswer:
    """Worst verdict first: backdoored, inconclusive, then what acquits, then why nothing does.

    Evidence of any engine version counts; the versions are part of the answer.

    Args:
        evidence: all scans of the digest, and of files with the same weights.
        purified: all scans that produced the digest.
    """
    versions = tuple(sorted({item.engine_version for item in evidence} | {item.engine_version for item in purified}))

    def answer(decision: GateDecision, *reasons: GateReason) -> GateAnswer:
        return GateAnswer(decision is GateDecision.ALLOW, decision, reasons, versions)

    if accused := _with_verdict(evidence, Verdict.BACKDOORED):
        return answer(GateDecision.BLOCK, *(_reason("backdoored", item.scan_id) for item in accused))
    if undecided := _with_verdict(evidence, Verdict.INCONCLUSIVE):
        return answer(GateDecision.QUARANTINE, *(reason for item in undecided for reason in _why_undecided(item)))

    own = [item for item in evidence if item.same_digest]
    doubts: list[GateReason] = []
    acquittals: list[GateReason] = []
    for item in _with_verdict(own, Verdict.CLEAN):
        code = _why_not(item.preset, item.has_reference, item.reference_fits)
        (doubts if code else acquittals).append(_reason(code or "clean_verified", item.scan_id))
    for origin in purified:
        code = _why_not(origin.preset, True, origin.reference_fits) if origin.passed else "purified_unverified"
        (doubts if code else acquittals).append(_reason(code or "purified_verified", origin.scan_id))
    if acquittals:
        return answer(GateDecision.ALLOW, *acquittals)

    doubts += [_reason(code, item.scan_id) for item in own if (code := _unfinished(item.state))]
    return answer(GateDecision.QUARANTINE, *(doubts or [_reason("unknown")]))


def _with_verdict(evidence: Sequence[ScanEvidence], verdict: Verdict) -> list[ScanEvidence]:
    return [item for item in evidence if item.state is JobState.SUCCEEDED and item.verdict is verdict]


def _why_undecided(item: ScanEvidence) -> list[GateReason]:
    reasons = [_reason("inconclusive", item.scan_id)]
    if not item.has_reference:
        reasons.append(_reason("reference_required", item.scan_id))
    return reasons


def _why_not(preset: Preset, has_reference: bool, reference_fits: bool) -> str:
    """The code of the first thing that keeps a good verdict from acquitting; empty if nothing does."""
    if preset.rank < MINIMUM_PRESET.rank:
        return "preset_too_low"
    if not has_reference:
        return "reference_required"
    return "" if reference_fits else "reference_unfit"


def _unfinished(state: JobState) -> str:
    if state in {JobState.QUEUED, JobState.RUNNING}:
        return "pending"
    return state.value if state in {JobState.FAILED, JobState.CANCELED} else ""


def _reason(code: str, scan_id: str | None = None) -> GateReason:
    return GateReason(code, _WORDS[code], scan_id)
