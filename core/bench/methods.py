"""Every method behind one call: ours as the pipeline composes it, and the published ones."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from core import ENGINE_VERSION
from core.baselines.registry import DETECTORS, PURIFIERS
from core.bench.modes import MODES, weaken
from core.config import ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.detection.detector import detect
from core.domain import Preset, Verdict
from core.inversion.engine import invert
from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel
from core.unlearning.purify import purify

NONE, OURS = "none", "bi-bau"


@dataclass(frozen=True, slots=True)
class Methods:
    """Names of the methods for one kind of model, in the order of the tables."""

    purifying: tuple[str, ...]
    detecting: tuple[str, ...]


CLASSIFIERS = Methods((NONE, OURS, "ft", "ft-sam", "nad", "anp", "i-bau", "sau"), (OURS, "neural-cleanse", "bti-dbf"))
#: SAU as it is: the posterior over the texts of the vocabulary takes the place of a classifier's.
CLIPS = Methods((NONE, OURS, "clip-ft", "cleanclip", "sau"), (OURS, *(f"{OURS}-{mode}" for mode in MODES), "decree"))
PURIFYING = tuple(dict.fromkeys(CLASSIFIERS.purifying + CLIPS.purifying))
DETECTING = tuple(dict.fromkeys(CLASSIFIERS.detecting + CLIPS.detecting))


@dataclass(frozen=True, slots=True)
class Treated:
    """A model after a method.

    Attributes:
        model: what is measured.
        passes: images through a forward and backward pass.
        detail: what the method says about itself.
        triggers: what it inverted on the suspect, most suspicious first; for the certificate.
    """

    model: SuspectModel
    passes: int
    detail: Mapping[str, Any]
    triggers: tuple[InvertedTrigger, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A detector's answer; fields as in `core.bench.rows.DetectRow`.

    `targets` are all classes named, most suspicious first; None stands for a target that depends on the source.
    """

    suspicious: bool
    verdict: str
    score: float
    p_value: float | None
    targets: list[int | None]
    passes: int
    detail: Mapping[str, Any]


def treat(method: str, suspect: SuspectModel, reference: ReferenceSet, preset: Preset, seed: int) -> Treated:
    """Purify with the method of that name.

    Args:
        method: one of PURIFYING.
        suspect: stays as it is.
        reference: the clean images.
        preset: for our method; the others know none.
        seed: everything random follows from it.

    Raises:
        KeyError: there is no such method.
        UnsupportedError: it has no meaning for such a network.
    """
    if method == NONE:
        return Treated(suspect, 0, {})
    if method == OURS:
        return _ours(suspect, reference, preset, seed)
    purified = PURIFIERS.get(method)(suspect, reference, seed=seed, ctx=RunContext())
    return Treated(purified.model, purified.images, {})


def judge(method: str, suspect: SuspectModel, reference: ReferenceSet, preset: Preset, seed: int) -> Judged:
    """Is it backdoored? Arguments and errors as for `treat`, with a method of DETECTING."""
    if (mode := method.removeprefix(f"{OURS}-")) in MODES:
        left = weaken(suspect, reference, mode, seed)
        return _in_concepts(judge(OURS, left.suspect, left.reference, preset, seed), left.concepts.tolist())
    if method != OURS:
        found = DETECTORS.get(method)(suspect, reference, seed=seed, ctx=RunContext())
        targets = [] if found.target is None else [found.target]
        verdict = "suspicious" if found.suspicious else "not suspicious"
        return Judged(found.suspicious, verdict, found.score, None, [*targets], found.images, dict(found.detail))
    config = ScanConfig.for_preset(preset, seed=seed)
    inversion = invert(suspect, reference, config.inversion, seed=seed, ctx=RunContext())
    detection = detect(suspect, inversion, reference, preset=preset)
    return Judged(
        suspicious=detection.verdict is Verdict.BACKDOORED,
        verdict=detection.verdict.value,
        score=detection.score,
        p_value=detection.p_value,
        targets=[finding.target for finding in detection.targets],
        passes=inversion.images_processed,
        detail={
            "engine": ENGINE_VERSION,
            "group": detection.provenance.group,
            "statistics": {item.name: item.value for item in detection.statistics},
            "families": [finding.operator for finding in detection.targets],
            "ranked": list(dict.fromkeys(trigger.target for trigger in inversion.triggers)),
        },
    )


def _in_concepts(judged: Judged, concepts: list[int]) -> Judged:
    """Targets as concepts of the whole vocabulary, each once."""

    def named(targets: Iterable[int | None]) -> list[int | None]:
        return list(dict.fromkeys(None if target is None else concepts[target] for target in targets))

    detail = {**judged.detail, "ranked": named(judged.detail["ranked"])}
    return replace(judged, targets=named(judged.targets), detail=detail)


def _ours(suspect: SuspectModel, reference: ReferenceSet, preset: Preset, seed: int) -> Treated:
    """Invert, then unlearn whatever the verdict; the weights are measured even where they would be withheld."""
    config, ctx = ScanConfig.for_preset(preset, seed=seed), RunContext()
    inversion = invert(suspect, reference, config.inversion, seed=seed, ctx=ctx)
    verdict = detect(suspect, inversion, reference, preset=preset).verdict
    detail = {"engine": ENGINE_VERSION, "preset": preset.value, "verdict": verdict.value}
    if not inversion.triggers:
        return Treated(suspect, inversion.images_processed, detail | {"accepted": False, "rounds": 0})
    purified = purify(
        suspect,
        inversion,
        reference,
        config.unlearning,
        config.inversion,
        seed=seed,
        ctx=ctx,
        is_settled=lambda model, found: detect(model, found, reference, preset=preset).verdict is Verdict.CLEAN,
    )
    passes = inversion.images_processed + purified.images_processed
    found = {"accepted": purified.accepted, "rounds": purified.rounds, "settled": purified.settled}
    return Treated(purified.model, passes, detail | found | {"back": purified.back}, inversion.triggers)
