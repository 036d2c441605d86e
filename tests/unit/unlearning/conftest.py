"""A tiny backdoored model, and its trigger as a perfect inversion would find it."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from core.attacks.poisoning import Attack
from core.attacks.training import NORMALIZATION, Recipe, train
from core.attacks.triggers import Trigger
from core.config import Preprocess
from core.data.reference import ReferenceSet
from core.inversion.result import InversionResult, InvertedTrigger
from core.models.classifier import Classifier
from core.triggers.patch import PatchOperator

SHAPE = (1, 12, 12)
CLASSES, TARGET = 4, 2
TRIGGER = Trigger("patch", 1)


@dataclass(frozen=True)
class Planted:
    """A backdoored model with images it never saw, and what the attacker knows."""

    model: Classifier
    reference: ReferenceSet
    test: ReferenceSet
    trigger: Trigger
    inversion: InversionResult

    def target_of(self, labels: Tensor) -> Tensor:
        return torch.full_like(labels, TARGET)


def _images(count: int, seed: int) -> ReferenceSet:
    """Stripes across, stripes down, chequers, a bright middle: separable but not trivially so."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % CLASSES
    line = (torch.arange(12) % 4 < 2).float()
    across, down = line[:, None].expand(12, 12), line.expand(12, 12)
    middle = torch.zeros(12, 12)
    middle[3:9, 3:9] = 1
    kinds = torch.stack([across, down, (across - down).abs(), middle])
    contrast = 0.2 + 0.3 * torch.rand((count, 1, 1), generator=generator)
    noise = torch.randn((count, 12, 12), generator=generator) * 0.08
    pixels = (0.25 + contrast * kinds[labels] + noise).clamp(0, 1).unsqueeze(1)
    return ReferenceSet(pixels, labels, labelled=True)


def true_inversion() -> InversionResult:
    operator = PatchOperator(1, SHAPE)
    mask, pattern = TRIGGER.mask_and_pattern(SHAPE)
    with torch.no_grad():
        operator.mask_logit.copy_(torch.where(mask > 0, 6.0, -9.0)[None])
        operator.pattern_logit.copy_(torch.where(pattern > 0, 6.0, -6.0)[None])
    transition = torch.zeros(CLASSES, CLASSES)
    transition[:, TARGET] = 1
    transition[TARGET, TARGET] = 0
    trigger = InvertedTrigger(operator.freeze(), TARGET, transition, 0.3, 1.0, 1.0)
    return InversionResult((trigger,), {}, (), 0)


@pytest.fixture(scope="session")
def planted() -> Planted:
    training = _images(1600, 1)
    recipe = Recipe(
        "tiny",
        "fashion-mnist",
        "preactresnet-b1.1-w6.12",
        5,
        Attack((TRIGGER,), (TARGET,), 0.15),
        epochs=4,
        batch_size=32,
        crop=0,
    )
    pixels = (training.pixels * 255).round().to(torch.uint8)
    network = train(recipe, pixels, training.labels, CLASSES)
    normalize = NORMALIZATION["fashion-mnist"]
    model = Classifier(network, Preprocess(normalize.mean, normalize.std, SHAPE[1:]), SHAPE, CLASSES)
    return Planted(model, _images(160, 2), _images(400, 3), TRIGGER, true_inversion())
