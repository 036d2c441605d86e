"""What all rows of one file share: images, effort of the attacker, preset, threads."""

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.attacks.datasets import ImageData
from core.data.reference import ReferenceSet
from core.domain import Preset
from core.errors import InvalidInputError
from core.evaluation.reattack import RATES, STEPS

#: Test images that the attacker of a re-attack draws from; nothing is measured on them.
_ATTACKERS = 500
_SPLIT_SEED = 1


class Reference(StrEnum):
    """How many clean images a defender has."""

    HUNDRED = "100"
    FOUR_HUNDRED = "400"
    FIVE_PERCENT = "5pc"  # as many as 5 % of the images that the models are trained on


@dataclass(frozen=True, slots=True)
class Effort:
    """How much the measuring spends.

    Attributes:
        test_images: for accuracy and attack success, at most.
        attacked_images: of these, how many a re-attack is measured on.
        rates, steps: of the retuning attacker.
        perturbing_steps, restarts: of the perturbing attacker.
    """

    test_images: int = 10_000
    attacked_images: int = 1000
    rates: tuple[float, ...] = RATES
    steps: tuple[int, ...] = STEPS
    perturbing_steps: int = 40
    restarts: int = 3


@dataclass(frozen=True, slots=True)
class Conditions:
    """Kept beside the rows, so that a run that goes on is the same run."""

    reference: Reference
    preset: Preset
    effort: Effort
    threads: int

    def to_json(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))  # type: ignore[no-any-return]

    def keep(self, path: Path) -> None:
        """Write to `path`, or compare with what is there.

        Raises:
            InvalidInputError: the rows beside it were measured under other conditions.
        """
        if path.exists():
            if json.loads(path.read_text()) != self.to_json():
                raise InvalidInputError(
                    "bench_conditions_differ",
                    f"The rows in {path.parent} were measured under other conditions.",
                    "Use another folder, or the same reference set, preset, suite and threads.",
                )
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=2) + "\n")


def split_of(seed: int) -> str:
    """Which images models with this seed belong to: those for judging, or those for choosing."""
    return "test" if seed < 100 else "validation"


def reference_set(data: ImageData, which: Reference, split: str) -> ReferenceSet:
    """The defender's images: class-balanced, never trained on, and disjoint from those of `TestImages`."""
    if which is Reference.FIVE_PERCENT:
        return data.part(f"{split}-reference-5pc")
    whole = data.part(f"{split}-reference")
    each = int(which) // data.num_classes
    rows = [(whole.labels == label).nonzero().flatten()[:each] for label in range(data.num_classes)]
    return whole.subset(torch.cat(rows).sort().values)


@dataclass(frozen=True, slots=True)
class TestImages:
    """Disjoint images of the test split: the attacker's own, and those to measure on.

    Attributes:
        measured: for accuracy and attack success. attacked: the first of them, for re-attacks.
        attackers: what a re-attacker draws from.
    """

    measured: ReferenceSet
    attacked: ReferenceSet
    attackers: ReferenceSet

    @classmethod
    def draw(cls, whole: ReferenceSet, effort: Effort) -> "TestImages":
        """The same division for the same images."""
        order: Tensor = torch.randperm(len(whole), generator=torch.Generator().manual_seed(_SPLIT_SEED))
        attackers = min(_ATTACKERS, len(whole) // 4)
        measured = order[attackers:][: effort.test_images]
        return cls(
            whole.subset(measured), whole.subset(measured[: effort.attacked_images]), whole.subset(order[:attackers])
        )
