"""The utility guard."""

from typing import Any

import torch

from core.data.reference import ReferenceSet
from core.evaluation.metrics import accuracy
from core.models.classifier import Classifier
from core.unlearning.guard import guard, interpolated


def _ruined(model: Classifier) -> Classifier:
    """A copy that always answers class 0."""
    ruined = model.clone()
    with torch.no_grad():
        ruined.module.get_submodule("linear").bias[0] += 100.0  # type: ignore[operator]
    return ruined


def _damaged(model: Classifier, images: ReferenceSet, budget: float) -> Classifier:
    """Noise on all weights, just enough to lose more than the budget."""
    before = accuracy(model.target_log_posterior, images.pixels, images.labels)
    for step in range(1, 100):
        damaged, generator = model.clone(), torch.Generator().manual_seed(1)
        with torch.no_grad():
            for parameter in damaged.trainable_parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.05 * step * parameter.std(correction=0) * noise)
        if before - accuracy(damaged.target_log_posterior, images.pixels, images.labels) > budget:
            return damaged
    raise AssertionError("the model cannot be damaged")


def test_no_loss_passes_a_budget_of_zero(planted: Any) -> None:
    result = guard(planted.model, planted.model.clone(), (), planted.reference, budget=0.0)
    assert result.accepted
    assert result.back == 0.0
    assert result.utility.before == result.utility.after


def test_a_loss_that_a_step_back_mends(planted: Any) -> None:
    """With no trigger in the way, weights that lose more than the budget are moved back until they keep it."""
    budget, images = 0.05, planted.reference
    damaged = _damaged(planted.model, planted.reference, budget)
    result = guard(planted.model, damaged, (), images, budget)
    assert result.accepted
    assert result.back > 0
    assert result.utility.after is not None
    assert result.utility.before - result.utility.after <= budget


def test_a_step_back_that_wakes_the_trigger_is_not_taken(planted: Any) -> None:
    """The suspect itself would keep the budget, but half way there the inverted trigger works again."""
    ruined = _ruined(planted.model)
    result = guard(planted.model, ruined, planted.inversion.triggers, planted.reference, budget=0.0)
    assert not result.accepted
    assert result.back == 0.0
    assert result.model is ruined


def test_interpolation_is_linear_in_the_weights(planted: Any) -> None:
    ruined = _ruined(planted.model)
    half = interpolated(ruined, planted.model, 0.25)
    bias = [m.module.get_submodule("linear").bias[0] for m in (half, planted.model)]
    assert torch.allclose(bias[0] - bias[1], torch.tensor(75.0))
