"""From evidence to a verdict: several statistics together, each against its calibrated threshold."""

from dataclasses import dataclass
from typing import Literal

import torch

from core.data.reference import ReferenceSet
from core.detection.calibration import Calibration
from core.detection.statistics import STATISTICS
from core.domain import Preset, Verdict
from core.inversion.measure import answers
from core.inversion.result import InversionResult, InvertedTrigger
from core.models.protocol import SuspectModel
from core.report.schema import Detection, Statistic, TargetFinding, ThresholdProvenance

#: Fewer reference images, or classes with images, than this give no clean verdict.
MIN_IMAGES, MIN_CLASS_SHARE = 50, 0.5
#: A suspect must be right this much more often than by guessing, as a share of what is left to gain.
MIN_SKILL = 0.3
#: From here on a score is a verdict.
THRESHOLD = 1.0
#: The same without real images, on which all thresholds were fixed.
SYNTHETIC_THRESHOLD = 1.5
#: How much wider the band too close to call is at preset fast.
FAST_BAND = 2.0
#: Which statistic a component's energy belongs to, by the operator it ended as.
_ENERGY_OF = {
    "patch": "tile_energy",
    "tiled": "tile_energy",
    "additive": "additive_energy",
    "blend": "additive_energy",
    "smooth": "smooth_energy",
    "warp": "warp_energy",
}


@dataclass(frozen=True, slots=True)
class _Scored:
    statistics: list[Statistic]
    score: float


def detect(
    model: SuspectModel,
    inversion: InversionResult,
    reference: ReferenceSet,
    *,
    preset: Preset = Preset.STANDARD,
    synthetic: bool = False,
    calibration: Calibration | None = None,
) -> Detection:
    """The verdict on a suspect.

    Args:
        model: the suspect.
        inversion: what `core.inversion.engine.invert` found on it.
        reference: the images it was found with.
        preset: how much the inversion could spend; a fast one must stay further from the threshold to be clean.
        synthetic: the images were synthesised: the verdict is never clean.
        calibration: thresholds; None for the committed ones.
    """
    calibration = calibration or Calibration.load()
    scored = _score(inversion, calibration)
    doubts = _doubts(model, reference, synthetic)
    threshold = SYNTHETIC_THRESHOLD if synthetic else THRESHOLD
    verdict, reasons = _decide(scored, threshold, doubts, calibration, preset)
    return Detection(
        verdict=verdict,
        score=scored.score,
        threshold=threshold,
        provenance=ThresholdProvenance(
            calibration=calibration.identifier,
            clean_models=calibration.clean_models,
            backdoored_models=calibration.backdoored_models,
            note=calibration.note,
        ),
        statistics=scored.statistics,
        targets=_targets(inversion, reference, verdict, calibration),
        coverage=list(inversion.coverage),
        reasons=reasons,
    )


def margin(value: float, threshold: float, direction: Literal["below", "above"]) -> float:
    """How suspicious a value is: one at the threshold, more on the suspicious side, never negative."""
    if direction == "below":
        return threshold / max(value, 1e-6)
    return max(value, 0.0) / threshold


def _score(inversion: InversionResult, calibration: Calibration) -> _Scored:
    """Every calibrated statistic; the score is the most suspicious one's margin."""
    statistics = []
    score = 0.0
    for name in STATISTICS:
        if name not in calibration.thresholds:
            continue
        entry, threshold = STATISTICS.get(name), calibration.thresholds[name]
        value = entry.measure(inversion)
        level = 0.0 if value is None else margin(value, threshold, entry.direction)
        score = max(score, level)
        statistics.append(
            Statistic(
                name=name,
                value=value,
                threshold=threshold,
                direction=entry.direction,
                suspicious=level >= THRESHOLD,
                description=entry.description,
            )
        )
    return _Scored(statistics, round(score, 4))


def _doubts(model: SuspectModel, reference: ReferenceSet, synthetic: bool) -> list[str]:
    """Why a low score would not mean much."""
    doubts = []
    if synthetic:
        doubts.append("There was no reference set: synthesised images can convict a model, not clear it.")
        return doubts
    classes = model.num_targets
    if len(reference) < MIN_IMAGES:
        doubts.append(f"The reference set has {len(reference)} images; a clean verdict needs {MIN_IMAGES}.")
    present = len(torch.unique(reference.labels))
    if present < max(2.0, MIN_CLASS_SHARE * min(classes, len(reference) // 2)):
        doubts.append(f"Only {present} of {classes} classes occur in the reference set.")
    if reference.labelled:
        accuracy = float((answers(model, reference.pixels) == reference.labels).float().mean())
        if (accuracy - 1 / classes) / (1 - 1 / classes) < MIN_SKILL:
            doubts.append(f"The suspect is right on only {accuracy:.0%} of the reference set: do they belong together?")
    return doubts


def _decide(
    scored: _Scored, threshold: float, doubts: list[str], calibration: Calibration, preset: Preset
) -> tuple[Verdict, list[str]]:
    if scored.score >= threshold:
        named = [s.name for s in scored.statistics if s.suspicious]
        return Verdict.BACKDOORED, [f"Beyond its threshold: {', '.join(named)}.", *doubts]
    if doubts:
        return Verdict.INCONCLUSIVE, doubts
    # A short search finds less than is there: it needs more distance to call a model clean.
    band = calibration.band * (FAST_BAND if preset is Preset.FAST else 1.0)
    if scored.score >= threshold * (1 - band):
        return Verdict.INCONCLUSIVE, [f"The score {scored.score:.2f} is too close to the threshold to call."]
    return Verdict.CLEAN, ["No statistic is near its threshold."]


def _suspicion(trigger: InvertedTrigger, calibration: Calibration) -> float:
    """Margin of one component's own energy."""
    statistic = "source_energy" if trigger.target is None else _ENERGY_OF[trigger.operator.name]
    threshold = calibration.thresholds.get(statistic)
    return 0.0 if threshold is None else margin(trigger.energy, threshold, "below")


def _targets(
    inversion: InversionResult, reference: ReferenceSet, verdict: Verdict, calibration: Calibration
) -> list[TargetFinding]:
    """Every target of a surviving component that is suspicious by itself, and the first of a backdoored model."""
    names = reference.class_names
    found: list[TargetFinding] = []
    ranked = sorted(inversion.triggers, key=lambda trigger: -_suspicion(trigger, calibration))
    for trigger in ranked:
        if any(item.target == trigger.target for item in found):
            continue
        named = verdict is Verdict.BACKDOORED and not found
        if not named and _suspicion(trigger, calibration) < THRESHOLD:
            break
        label = names[trigger.target] if trigger.target is not None and trigger.target < len(names) else None
        found.append(
            TargetFinding(
                target=trigger.target,
                label=label,
                operator=trigger.operator.name,
                energy=trigger.energy,
                flip_rate=trigger.flip_rate,
            )
        )
    return found
