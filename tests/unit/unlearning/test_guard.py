"""The utility guard."""

from typing import Any

import torch

from core.models.classifier import Classifier
from core.unlearning.guard import guard, interpolated


def _ruined(model: Classifier) -> Classifier:
    """A copy that always answers class 0."""
    ruined = model.clone()
    with torch.no_grad():
        ruined.module.get_submodule("linear").bias[0] += 100.0  # type: ignore[operator]
    return ruined


def test_no_loss_passes_a_budget_of_zero(planted: Any) -> None:
    result = guard(planted.model, planted.model.clone(), (), planted.reference, budget=0.0)
    assert result.accepted
    assert result.back == 0.0
    assert result.utility.before == result.utility.after


def test_a_loss_that_a_step_back_mends(planted: Any) -> None:
    """Ten percent of the way back is enough when the damage is just over the edge; triggers are not in the way."""
    damaged = planted.model.clone()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in damaged.trainable_parameters():
            parameter.add_(0.25 * parameter.std(correction=0) * torch.randn(parameter.shape, generator=generator))
    budget = 0.05
    result = guard(planted.model, damaged, (), planted.reference, budget)
    assert result.utility.after is not None
    assert result.back > 0
    assert result.accepted
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
