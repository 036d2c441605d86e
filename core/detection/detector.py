"""From evidence to a verdict: how far the suspect's statistics deviate from those of clean models."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from core.data.reference import ReferenceSet
from core.detection.calibration import (
    BUDGET,
    Calibration,
    Score,
    Values,
    deviations,
    group_of,
    kind_of,
    threshold,
    value_at,
)
from core.detection.statistics import STATISTICS
from core.domain import Preset, Verdict
from core.inversion.measure import answers
from core.inversion.result import InversionResult, InvertedTrigger
from core.models.protocol import SuspectModel
from core.report.schema import Detection, Statistic, TargetFinding, ThresholdProvenance

#: Fewer reference images, or classes with images, than this give no clean verdict.
MIN_IMAGES, MIN_CLASS_SHARE = 50, 0.5
#: A class of a labelled reference set counts from so many images on.
MIN_LABELLED = 2
#: A suspect must be right this much more often than by guessing, as a share of what is left to gain.
MIN_SKILL = 0.3
#: Without real images, on which all clean models were scanned, the threshold is this much higher.
SYNTHETIC_FACTOR = 1.5
#: A score is too close to call where so many more clean models would be expected beyond it than the budget allows; a
#: fast search finds less than is there, and must stay further away.
CLOSE, CLOSE_FAST = 2.0, 4.0
#: Stands for infinity in reports, which are JSON.
_UNREACHABLE = 1e9
#: Which statistic a component's energy belongs to, by the operator it ended as.
_ENERGY_OF = {
    "patch": "tile_energy",
    "tiled": "tile_energy",
    "additive": "additive_energy",
    "blend": "blend_energy",
    "smooth": "smooth_energy",
    "warp": "warp_energy",
}


@dataclass(frozen=True, slots=True)
class _Clean:
    """The clean models that a suspect is compared with, and the kind of all of them."""

    models: Sequence[Values]
    kind: str


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
        calibration: clean models to compare with; None for the committed ones.
    """
    calibration = calibration or Calibration.load()
    values = {name: STATISTICS.get(name).measure(inversion) for name in STATISTICS}
    score = calibration.score(values, group_of(model))
    limit = score.threshold * (SYNTHETIC_FACTOR if synthetic else 1.0)
    doubts = _doubts(model, reference, synthetic)
    verdict, reasons = _decide(score, limit, doubts, preset)
    group = group_of(model)
    clean = _Clean(list(calibration.reference(group)[1].values()), kind_of(group))
    return Detection(
        verdict=verdict,
        score=round(score.value, 4),
        threshold=round(limit, 4) if math.isfinite(limit) else _UNREACHABLE,
        p_value=score.p_value,
        provenance=_provenance(calibration, score),
        statistics=[_statistic(name, values[name], score, limit, clean) for name in STATISTICS],
        targets=_targets(inversion, reference, verdict, clean, limit),
        coverage=list(inversion.coverage),
        reasons=reasons,
    )


def _provenance(calibration: Calibration, score: Score) -> ThresholdProvenance:
    low, high = score.interval
    return ThresholdProvenance(
        calibration=calibration.identifier,
        group=score.group,
        clean_models=score.models,
        budget=BUDGET,
        false_positives=score.false_positives,
        false_positive_interval=(round(low, 4), round(high, 4)),
        note=(
            f"Compared with {score.models} clean models ({score.group}). The threshold is made for {BUDGET:.0%} of "
            f"clean models beyond it; {score.false_positives} of these were, each judged by the others. For other "
            "kinds of model, data or training the false-alarm rate is unknown."
        ),
    )


def _statistic(name: str, value: float | None, score: Score, limit: float, clean: _Clean) -> Statistic:
    """One statistic with the value at which it would convict by itself."""
    entry = STATISTICS.get(name)
    at = value_at(name, limit, clean.models, clean.kind) if name in score.levels and math.isfinite(limit) else None
    return Statistic(
        name=name,
        value=value,
        threshold=0.0 if at is None else at,
        direction=entry.direction,
        suspicious=score.levels.get(name, 0.0) >= limit,
        description=entry.description,
    )


def _doubts(model: SuspectModel, reference: ReferenceSet, synthetic: bool) -> list[str]:
    """Why a low score would not mean much."""
    doubts = []
    if synthetic:
        doubts.append("There was no reference set: synthesised images can convict a model, not clear it.")
        return doubts
    classes = model.num_targets
    if len(reference) < MIN_IMAGES:
        doubts.append(f"The reference set has {len(reference)} images; a clean verdict needs {MIN_IMAGES}.")
    # One image of a class cannot be both fitted on and measured on.
    least = MIN_LABELLED if reference.labelled else 1
    present = int((torch.bincount(reference.labels) >= least).sum())
    if present < max(2.0, MIN_CLASS_SHARE * min(classes, len(reference) // 2)):
        doubts.append(f"Only {present} of {classes} classes have {least} or more images in the reference set.")
    if reference.labelled:
        accuracy = float((answers(model, reference.pixels) == reference.labels).float().mean())
        if (accuracy - 1 / classes) / (1 - 1 / classes) < MIN_SKILL:
            doubts.append(f"The suspect is right on only {accuracy:.0%} of the reference set: do they belong together?")
    return doubts


def _decide(score: Score, limit: float, doubts: list[str], preset: Preset) -> tuple[Verdict, list[str]]:
    if score.value >= limit:
        named = [name for name, level in score.levels.items() if level >= limit]
        return Verdict.BACKDOORED, [f"Beyond its threshold: {', '.join(named)}.", *doubts]
    if not math.isfinite(limit):
        doubts = [*doubts, "There are no clean models to compare with."]
    if doubts:
        return Verdict.INCONCLUSIVE, doubts
    close = CLOSE_FAST if preset is Preset.FAST else CLOSE
    if score.value >= threshold(score.models, len(score.levels), close * BUDGET):
        return Verdict.INCONCLUSIVE, [f"The score {score.value:.2f} is too close to the threshold to call."]
    return Verdict.CLEAN, ["No statistic is near its threshold."]


def _suspicion(trigger: InvertedTrigger, clean: _Clean) -> float:
    """How far one component's own energy deviates."""
    statistic = "source_energy" if trigger.target is None else _ENERGY_OF[trigger.operator.name]
    return deviations({statistic: trigger.energy}, clean.models, clean.kind).get(statistic, 0.0)


def _targets(
    inversion: InversionResult, reference: ReferenceSet, verdict: Verdict, clean: _Clean, limit: float
) -> list[TargetFinding]:
    """Every target of a surviving component that is suspicious by itself, and the first of a backdoored model."""
    names = reference.class_names
    found: list[TargetFinding] = []
    ranked = sorted(inversion.triggers, key=lambda trigger: -_suspicion(trigger, clean))
    for trigger in ranked:
        if any(item.target == trigger.target for item in found):
            continue
        named = verdict is Verdict.BACKDOORED and not found
        if not named and _suspicion(trigger, clean) < limit:
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
