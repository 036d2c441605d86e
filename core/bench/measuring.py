"""ACC, ASR, RA and both re-attacks of one model under every trigger of an attack."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from core.attacks.poisoning import Attack
from core.bench.conditions import Effort, TestImages
from core.context import RunContext
from core.evaluation.metrics import PixelMap, accuracy, triggered_rates
from core.evaluation.perturbation import perturbed_asr
from core.evaluation.reattack import reattack_grid, worst
from core.evaluation.utility import retrieval
from core.models.protocol import SuspectModel


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of one model, means over the triggers of the attack.

    Attributes:
        acc, asr, ra: fractions.
        retrieval: recall at rank one of the images' texts by concept; None without texts.
        worst: the highest ASR of the retuning grid. perturbed: with the best perturbation on the trigger.
        triggers: the same for each trigger, with its curves.
    """

    acc: float
    asr: float
    ra: float
    worst: float
    perturbed: float
    retrieval: float | None
    triggers: list[dict[str, Any]]


def measure(
    model: SuspectModel, images: TestImages, attack: Attack, classes: int, effort: Effort, seed: int
) -> Measured:
    """Everything about `model` that needs the true triggers.

    Args:
        model: stays as it is.
        images: to measure on, and the attacker's.
        attack: whose triggers, all of which count alike.
        classes: K.
        effort: of the attackers.
        seed: draws the attackers' images; the same for all models that are compared.
    """
    model.module.to(memory_format=torch.channels_last)
    measured = images.measured
    triggers: list[dict[str, Any]] = []
    for which, trigger in enumerate(attack.triggers):
        target_of = _target_of(attack, classes, which)
        asr, ra = triggered_rates(model.target_log_posterior, measured.pixels, measured.labels, trigger, target_of)
        grid, perturbed = _attack(model, images, trigger, target_of, effort, seed)
        triggers.append(
            {
                "target": attack.targets[which],
                "asr": asr,
                "ra": ra,
                "worst": worst(grid),
                "perturbed": perturbed,
                "curves": {str(lr): {str(steps): rate for steps, rate in curve.items()} for lr, curve in grid.items()},
            }
        )

    def mean(name: str) -> float:
        return float(sum(item[name] for item in triggers)) / len(triggers)

    acc = accuracy(model.target_log_posterior, measured.pixels, measured.labels)
    recall = retrieval(model, measured)
    return Measured(
        acc,
        mean("asr"),
        mean("ra"),
        mean("worst"),
        mean("perturbed"),
        None if recall is None else recall.before,
        triggers,
    )


def _target_of(attack: Attack, classes: int, which: int) -> Callable[[Tensor], Tensor]:
    return lambda labels: attack.target_of(labels, classes, which)


def _attack(
    model: SuspectModel,
    images: TestImages,
    trigger: PixelMap,
    target_of: Callable[[Tensor], Tensor],
    effort: Effort,
    seed: int,
) -> tuple[dict[float, dict[int, float]], float]:
    ctx = RunContext()
    grid = reattack_grid(
        model,
        images.attackers,
        images.attacked,
        trigger,
        target_of,
        seed=seed,
        ctx=ctx,
        rates=effort.rates,
        steps=effort.steps,
    )
    perturbed = perturbed_asr(
        model,
        images.attackers,
        images.attacked,
        trigger,
        target_of,
        steps=effort.perturbing_steps,
        restarts=effort.restarts,
        seed=seed,
        ctx=ctx,
    )
    return grid, perturbed
