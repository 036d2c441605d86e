"""What unlearning does, by kind of model and of trigger."""

from typing import Any

import pytest
import torch

from core.config import Preprocess, UnlearningConfig
from core.models.clip.adapter import ClipAdapter
from core.unlearning.recipe import recipe_for

CONFIG = UnlearningConfig()


@pytest.fixture(scope="module")
def of_texts() -> ClipAdapter:
    tower = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    return ClipAdapter(tower, torch.eye(4)[:3], 10.0, Preprocess((0.5,), (0.5,), (2, 2)), (3, 2, 2))


def test_a_classifier_is_treated_as_configured(planted: Any) -> None:
    local, dense = (recipe_for(planted.model, CONFIG, share) for share in (0.0, 1.0))
    assert local.config is dense.config is CONFIG
    assert (local.lr, local.steps, local.back) == (CONFIG.lr, CONFIG.steps, 0.2)
    assert (dense.lr, dense.steps, dense.back) == (pytest.approx(CONFIG.lr / 4), 60, pytest.approx(0.4))
    assert isinstance(local.optimizer(planted.model.trainable_parameters()), torch.optim.SGD)


def test_a_local_trigger_of_a_model_of_texts_needs_no_simulated_attack(of_texts: ClipAdapter) -> None:
    recipe = recipe_for(of_texts, CONFIG, 0.0)
    assert isinstance(recipe.optimizer(of_texts.trainable_parameters()), torch.optim.AdamW)
    assert (recipe.config.path, recipe.config.reattack_steps, recipe.config.stage) == (1.0, 0, 0.0)
    assert recipe.config.feature > CONFIG.feature
    assert recipe.back == 0.0


def test_a_dense_one_does(of_texts: ClipAdapter) -> None:
    recipe = recipe_for(of_texts, CONFIG, 1.0)
    assert recipe.config.path == pytest.approx(CONFIG.path)
    assert (recipe.config.reattack_steps, recipe.config.stage) == (CONFIG.reattack_steps, CONFIG.stage)
    assert recipe.lr < recipe_for(of_texts, CONFIG, 0.0).lr
