"""What workers do: train a model, measure a method on it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from core.attacks.poisoning import Attack
from core.attacks.training import Recipe
from core.attacks.zoo import Zoo
from core.bench.conditions import Conditions, TestImages, reference_set, split_of
from core.bench.isolation import peak_rss_bytes, run_isolated
from core.bench.measuring import Measured, measure
from core.bench.methods import Treated, judge, treat
from core.bench.rows import DetectRow, Key, PurifyRow
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.domain import Preset
from core.errors import UnsupportedError
from core.evaluation.certificate import certify
from core.models.protocol import SuspectModel
from core.verification import HELD_OUT

T = TypeVar("T")

#: The attack of a clean model's rows.
CLEAN = "clean"


@dataclass(frozen=True, slots=True)
class Subject:
    """One model of a suite, and the clean one of the same kind and seed.

    Attributes:
        data, model, attack: the cell; `attack` is CLEAN for a clean model.
        seed: of both recipes.
    """

    data: str
    model: str
    attack: str
    seed: int
    suspect: Recipe
    clean: Recipe

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.data} {self.model} {self.attack} s{self.seed}"

    @property
    def key(self) -> Key:
        """Of its rows, without the method."""
        return (self.data, self.model, self.attack, self.seed)


@dataclass(frozen=True, slots=True)
class Unsupported:
    """A method has no meaning for this kind of network."""

    reason: str


@dataclass(frozen=True, slots=True)
class _Cost:
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int


def train(zoo: Zoo, recipe: Recipe) -> dict[str, object]:
    """The record of `recipe`, which is trained if it was not yet."""
    if not zoo.has(recipe):
        zoo.datasets.load(recipe.dataset)  # here, so that it is read once
        return run_isolated(zoo.record, recipe)
    return zoo.record(recipe)


def purify_one(
    zoo: Zoo, subject: Subject, method: str, conditions: Conditions, before: PurifyRow | None
) -> PurifyRow | Unsupported:
    """The row of one method; of the method "none" without `before`, with it of the others."""
    train(zoo, subject.suspect)
    train(zoo, subject.clean)
    zoo.datasets.load(subject.data)
    return run_isolated(_purify, zoo, subject, method, conditions, before)


def detect_one(zoo: Zoo, subject: Subject, method: str, conditions: Conditions) -> DetectRow | Unsupported:
    """One detector on one model."""
    train(zoo, subject.suspect)
    zoo.datasets.load(subject.data)
    return run_isolated(_detect, zoo, subject, method, conditions)


def _purify(
    zoo: Zoo, subject: Subject, method: str, conditions: Conditions, before: PurifyRow | None
) -> PurifyRow | Unsupported:
    data, suspect = zoo.datasets.load(subject.data), zoo.get(subject.suspect)
    attack = _attack_of(zoo, subject)
    reference = _reference(zoo, subject, conditions)
    try:
        treated, cost = _metered(lambda: treat(method, suspect, reference, conditions.preset, subject.seed))
    except UnsupportedError as error:
        return Unsupported(error.detail)
    part = f"{split_of(subject.seed)}-test"
    whole = data.part(part)

    def measured(model: SuspectModel, recipe: Recipe) -> Measured:
        images = TestImages.draw(zoo.equipped(recipe, part, whole), conditions.effort)
        return measure(model, images, attack, data.num_classes, conditions.effort, subject.seed)

    after = measured(treated.model, subject.suspect)
    certificate = certify_treated(treated, zoo.get(subject.clean), reference, conditions.preset, subject.seed)
    if before is None:
        clean = measured(zoo.get(subject.clean), subject.clean)
        first, beside = after, {"worst_clean": clean.worst, "perturbed_clean": clean.perturbed}
        asr_clean, ra_clean = clean.asr, clean.ra
        detail = {"acc_clean": clean.acc, "clean": clean.triggers}
        if clean.retrieval is not None:
            detail["retrieval_clean"] = clean.retrieval
        acc_before, asr_before = first.acc, first.asr
    else:
        beside = {name: before.reattack[name] for name in ("worst_clean", "perturbed_clean")}
        asr_clean, ra_clean = before.asr_clean, before.ra_clean
        detail = {}
        acc_before, asr_before = before.acc_before, before.asr_before
    return PurifyRow(
        data=subject.data,
        model=subject.model,
        attack=subject.attack,
        method=method,
        seed=subject.seed,
        acc_before=acc_before,
        acc=after.acc,
        asr_before=asr_before,
        asr=after.asr,
        ra=after.ra,
        asr_clean=asr_clean,
        ra_clean=ra_clean,
        reattack={"worst": after.worst, "perturbed": after.perturbed} | beside,
        passes=treated.passes,
        wall_s=cost.wall_s,
        peak_rss_bytes=cost.peak_rss_bytes,
        detail={
            "cpu_s": cost.cpu_s,
            "reference_images": len(reference),
            "recipe": subject.suspect.digest[:10],
            "triggers": after.triggers,
            **({} if after.retrieval is None else {"retrieval": after.retrieval}),
            **treated.detail,
            **certificate,
            **detail,
        },
    )


def certify_treated(
    treated: Treated, control: SuspectModel, reference: ReferenceSet, preset: Preset, seed: int
) -> dict[str, Any]:
    """The re-attack certificate as a report would have it, with the clean control that only a benchmark knows."""
    if not treated.triggers:
        return {}
    attackers, held_out = reference.split(HELD_OUT, seed)
    found = certify(
        treated.model,
        treated.triggers,
        attackers,
        held_out,
        preset=preset,
        seed=seed,
        ctx=RunContext(),
        control=control,
    )
    return {"certificate": None if found is None else found.model_dump(mode="json")}


def _detect(zoo: Zoo, subject: Subject, method: str, conditions: Conditions) -> DetectRow | Unsupported:
    suspect, reference = zoo.get(subject.suspect), _reference(zoo, subject, conditions)
    try:
        judged, cost = _metered(lambda: judge(method, suspect, reference, conditions.preset, subject.seed))
    except UnsupportedError as error:
        return Unsupported(error.detail)
    attack = zoo.attack_of(subject.suspect)
    first = judged.targets[0] if judged.targets else None
    return DetectRow(
        data=subject.data,
        model=subject.model,
        attack=subject.attack,
        method=method,
        seed=subject.seed,
        suspicious=judged.suspicious,
        verdict=judged.verdict,
        score=judged.score,
        p_value=judged.p_value,
        target=first,
        named=None if attack is None else bool(judged.targets) and first in attack.targets,
        passes=judged.passes,
        wall_s=cost.wall_s,
        peak_rss_bytes=cost.peak_rss_bytes,
        detail={
            "cpu_s": cost.cpu_s,
            "reference_images": len(reference),
            "recipe": subject.suspect.digest[:10],
            "asr": zoo.record(subject.suspect).get("asr"),
            "targets": judged.targets,
            "true_targets": [] if attack is None else list(attack.targets),
            **judged.detail,
        },
    )


def _attack_of(zoo: Zoo, subject: Subject) -> Attack:
    attack = zoo.attack_of(subject.suspect)
    if attack is None:
        raise ValueError(f"{subject.name} has no backdoor to remove")
    return attack


def _reference(zoo: Zoo, subject: Subject, conditions: Conditions) -> ReferenceSet:
    images = reference_set(zoo.datasets.load(subject.data), conditions.reference, split_of(subject.seed))
    return zoo.equipped(subject.suspect, f"{split_of(subject.seed)}-reference", images)


def _metered(work: Callable[[], T]) -> tuple[T, _Cost]:
    """What `work` returns, and what it took in this process."""
    wall, cpu = time.monotonic(), time.process_time()
    value = work()
    cost = _Cost(round(time.monotonic() - wall, 3), round(time.process_time() - cpu, 3), peak_rss_bytes())
    return value, cost
