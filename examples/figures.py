"""What examples/measure.py and examples/measure_clip.py share: the figures of one example, and the command line."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from core.attacks.poisoning import Attack
from core.evaluation.metrics import Scorer, accuracy, triggered_rates


@dataclass(frozen=True, slots=True)
class Models:
    """Scorers of one example: as it was scanned, purified (or the same again), and the clean example."""

    suspect: Scorer
    after: Scorer
    clean: Scorer


@torch.no_grad()
def figures(
    name: str, models: Models, planted: Mapping[str, Attack | None], pixels: Tensor, labels: Tensor, classes: int
) -> dict[str, float]:
    """acc_before, asr_before, acc_after, asr_after, asr_clean, ra_after of the example `name`, fractions.

    Args:
        planted: the backdoor of every example; one without is measured under the worst of the others.
        pixels, labels: (N, C, H, W) in [0, 1], and (N,).
        classes: K.
    """
    own = planted[name]
    attacks = [own] if own else [attack for attack in planted.values() if attack]

    def rates(scorer: Scorer) -> list[tuple[float, float]]:
        return [
            triggered_rates(scorer, pixels, labels, attack.triggers[0], _target_of(attack, classes))
            for attack in attacks
        ]

    after = rates(models.after)
    return {
        "acc_before": accuracy(models.suspect, pixels, labels),
        "asr_before": max(asr for asr, _ in rates(models.suspect)),
        "acc_after": accuracy(models.after, pixels, labels),
        "asr_after": max(asr for asr, _ in after),
        "asr_clean": max(asr for asr, _ in rates(models.clean)),
        "ra_after": min(ra for _, ra in after),
    }


def _target_of(attack: Attack, classes: int) -> Callable[[Tensor], Tensor]:
    return lambda labels: attack.target_of(labels, classes)


def run(measure: Callable[[str, Path | None], dict[str, float]]) -> None:
    """Prints the figures of every example that the first argument names, as JSON."""
    job = json.loads(sys.argv[1])
    print(json.dumps({name: measure(name, Path(path) if path else None) for name, path in job.items()}))
