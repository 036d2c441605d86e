"""Where triggered images come from."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.inversion.result import InvertedTrigger
from core.triggers.additive import AdditiveOperator
from core.unlearning.pool import DENSE_STRENGTH, FADE, LOCAL_STRENGTH, RESIDUAL, TriggerPool


def test_images_are_triggered_and_the_wanted_answer_is_wrong(planted: Any) -> None:
    pool = TriggerPool()
    pool.add(planted.inversion.triggers)
    pixels, labels = planted.reference.pixels, planted.reference.labels
    triggered = pool.sample(planted.model, pixels, labels, torch.Generator().manual_seed(0))
    assert triggered.pixels.shape == pixels.shape
    assert 0 <= float(triggered.pixels.min()) <= float(triggered.pixels.max()) <= 1
    assert not bool((triggered.wanted == labels).any())
    others = labels != 2
    assert float((triggered.wanted[others] == 2).float().mean()) > 0.9
    outside = planted.trigger.mask_and_pattern((1, 12, 12))[0][0] == 0
    change = (triggered.pixels - pixels).abs()[:, 0][:, outside]
    assert float(change.max()) <= RESIDUAL + LOCAL_STRENGTH[1] * 1e-3


def test_older_rounds_keep_half_of_the_weight(planted: Any) -> None:
    one = planted.inversion.triggers[0]
    pool = TriggerPool()
    pool.add([replace(one, energy=0.2), replace(one, energy=0.2)])
    assert pool.weights == pytest.approx((0.5, 0.5))
    pool.add([])
    pool.add([one])
    assert pool.weights == pytest.approx((0.25, 0.25, 0.5))
    assert len(pool.triggers) == 3


def test_dear_components_hardly_count(planted: Any) -> None:
    one = planted.inversion.triggers[0]
    pool = TriggerPool()
    pool.add([replace(one, energy=0.3), replace(one, energy=0.6)])
    assert pool.weights == pytest.approx((1 / (1 + math.exp(-4)), 1 / (1 + math.exp(4))))
    assert [trigger.energy for trigger in pool.convincing] == [0.3]


def test_dense_triggers_are_stronger_and_fade_the_image(planted: Any) -> None:
    local, dense = planted.inversion.triggers[0], _dense()
    pool = TriggerPool()
    pool.add([replace(local, energy=0.3), replace(dense, energy=0.3)])
    assert pool.dense_share == pytest.approx(0.5)
    only = TriggerPool()
    only.add([dense])
    pixels, labels = planted.reference.pixels, planted.reference.labels
    change = only.sample(planted.model, pixels, labels, torch.Generator().manual_seed(0)).pixels - pixels
    # Upwards by 0.6 to 4 times 0.02, downwards by up to 30 % of the image, both with the residual.
    assert 0.06 < float(change.max()) <= DENSE_STRENGTH[1] * 0.02 + RESIDUAL + 1e-6
    assert -FADE - RESIDUAL <= float(change.min()) < -0.1


def _dense() -> InvertedTrigger:
    operator = AdditiveOperator(1, (1, 12, 12))
    with torch.no_grad():
        operator.pattern.fill_(0.02)
    transition = torch.zeros(4, 4)
    transition[[0, 1, 3], 2] = 1
    return InvertedTrigger(operator.freeze(), 2, transition, 0.4, 1.0, 1.0)
