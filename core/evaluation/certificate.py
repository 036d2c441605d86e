"""The re-attack certificate: what an attacker needs to bring back a backdoor that was removed.

Nobody but the attacker knows the true trigger, so the attacks use what was inverted on the suspect: a small
perturbation is added to it, and the weights are retuned on a few reference images with it. Both also work to some
extent on a clean model, which is why a figure without a clean control of the same kind is only an upper bound.
"""

from dataclasses import dataclass

from torch import Tensor

from core.context import RunContext
from core.data.reference import ReferenceSet
from core.domain import Preset
from core.evaluation.inverted import goal
from core.evaluation.perturbation import RADIUS, perturbed_asr
from core.evaluation.reattack import RATES, STEPS, TEXT_RATES, Attacker, reattack_grid, worst
from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel
from core.report.schema import Certificate, ReattackCurve, ReattackPoint, Resistance

_NO_CONTROL = "No clean model of the same kind is known, so it cannot be said what it would have shown."
#: At most so many of the triggers are perturbed, most suspicious first.
_TRIGGERS = 2
#: Share of the work that perturbing takes.
_PERTURBING = 0.25


@dataclass(frozen=True, slots=True)
class Strength:
    """How much an attacker spends.

    Attributes:
        attacker: images and kind of the retuning.
        rates: learning rates, and of models of texts. steps: of the retuning, rising.
        perturbing_steps: of each restart. restarts: of the perturbation.
    """

    attacker: Attacker
    rates: tuple[float, ...]
    text_rates: tuple[float, ...]
    steps: tuple[int, ...]
    perturbing_steps: int
    restarts: int


_STRENGTHS = {
    Preset.FAST: Strength(Attacker(10, 30), (0.01,), (0.003,), (5, 10, 20), 10, 1),
    Preset.STANDARD: Strength(Attacker(10, 30), RATES, TEXT_RATES, (5, 10, 20, 50), 20, 1),
    Preset.THOROUGH: Strength(Attacker(), RATES, TEXT_RATES, STEPS, 40, 3),
}


def certify(
    purified: SuspectModel,
    triggers: tuple[InvertedTrigger, ...],
    attacker_images: ReferenceSet,
    held_out: ReferenceSet,
    *,
    preset: Preset,
    seed: int,
    ctx: RunContext,
    control: SuspectModel | None = None,
) -> Certificate | None:
    """Attack `purified` again; None if there is no trigger, or too few images for the attacker.

    Args:
        purified: attacked in copies.
        triggers: inverted on the suspect, most suspicious first. The weights are retuned with the one that works best
            once it is perturbed.
        attacker_images: what the attacker has, disjoint from `held_out`.
        held_out: what the attacks are measured on.
        preset: how much the attacker spends.
        seed: draws the attacker's images and starting points.
        ctx: progress, and a point to stop at every step.
        control: a clean model trained like the suspect, if one is known.
    """
    strength = _STRENGTHS[preset]
    usable = [
        trigger
        for trigger in triggers[:_TRIGGERS]
        if _feasible(trigger, attacker_images, strength.attacker) and goal(trigger, held_out.labels).counted.any()
    ]
    if not usable:
        return None
    whole = ctx.part(0.0, 0.5 if control else 1.0)
    perturbed: list[float] = []
    for at, trigger in enumerate(usable):
        low, high = (_PERTURBING * (at + share) / len(usable) for share in (0, 1))
        part = whole.part(low, high)
        perturbed.append(_perturb(purified, trigger, attacker_images, held_out, strength, seed, part))
    most = max(perturbed)
    trigger = usable[perturbed.index(most)]
    curves = _retune(purified, trigger, attacker_images, held_out, strength, seed, whole.part(_PERTURBING, 1.0))
    reference = None
    if control is not None:
        part = ctx.part(0.5, 1.0)
        reference = _resistance(
            _retune(control, trigger, attacker_images, held_out, strength, seed, part.part(_PERTURBING, 1.0)),
            _perturb(control, trigger, attacker_images, held_out, strength, seed, part.part(0.0, _PERTURBING)),
        )
    ctx.progress(1.0)
    return Certificate(
        target=trigger.target,
        operator=trigger.operator.name,
        poisoned=strength.attacker.poisoned,
        clean=strength.attacker.clean,
        images=len(held_out),
        radius=RADIUS,
        purified=_resistance(curves, most),
        control=reference,
        control_missing="" if reference else _NO_CONTROL,
    )


def _feasible(trigger: InvertedTrigger, images: ReferenceSet, attacker: Attacker) -> bool:
    return len(images) >= attacker.images and int(goal(trigger, images.labels).counted.sum()) >= attacker.poisoned


def _perturb(
    model: SuspectModel,
    trigger: InvertedTrigger,
    attacker_images: ReferenceSet,
    held_out: ReferenceSet,
    strength: Strength,
    seed: int,
    ctx: RunContext,
) -> float:
    return perturbed_asr(
        model,
        attacker_images,
        held_out,
        trigger.operator.apply,
        lambda labels: _wanted(trigger, labels),
        steps=strength.perturbing_steps,
        restarts=strength.restarts,
        seed=seed,
        ctx=ctx,
    )


def _retune(
    model: SuspectModel,
    trigger: InvertedTrigger,
    attacker_images: ReferenceSet,
    held_out: ReferenceSet,
    strength: Strength,
    seed: int,
    ctx: RunContext,
) -> dict[float, dict[int, float]]:
    return reattack_grid(
        model,
        attacker_images,
        held_out,
        trigger.operator.apply,
        lambda labels: _wanted(trigger, labels),
        seed=seed,
        ctx=ctx,
        rates=strength.rates if model.scale is None else strength.text_rates,
        steps=strength.steps,
        attacker=strength.attacker,
    )


def _wanted(trigger: InvertedTrigger, labels: Tensor) -> Tensor:
    """Images with nowhere to go keep their label, which leaves them out."""
    aim = goal(trigger, labels)
    return aim.wanted.where(aim.counted, labels)


def _resistance(grid: dict[float, dict[int, float]], perturbed: float) -> Resistance:
    curves = [
        ReattackCurve(
            learning_rate=lr, points=[ReattackPoint(steps=steps, flip_rate=rate) for steps, rate in curve.items()]
        )
        for lr, curve in grid.items()
    ]
    return Resistance(curves=curves, worst=worst(grid), perturbed=perturbed)
