"""Where triggered images come from."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from core.inversion.result import InvertedTrigger
from core.triggers.additive import AdditiveOperator
from core.unlearning.pool import RESIDUAL, STRENGTH, TriggerPool


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
    assert float(change.max()) <= RESIDUAL + STRENGTH[1] * 1e-3


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


def test_families_are_compared_by_what_is_natural_for_them(planted: Any) -> None:
    local, dense = planted.inversion.triggers[0], _dense()
    pool = TriggerPool()
    ratio = local.operator.natural_energy / dense.operator.natural_energy
    pool.add([replace(local, energy=0.3 * ratio), replace(dense, energy=0.3)])
    assert pool.dense_share == pytest.approx(0.5)


def test_strengths_vary_from_image_to_image(planted: Any) -> None:
    pool = TriggerPool()
    pool.add([_dense()])
    pixels, labels = torch.full((200, 1, 12, 12), 0.5), torch.zeros(200, dtype=torch.long)
    change = pool.sample(planted.model, pixels, labels, torch.Generator().manual_seed(0)).pixels - pixels
    strength = change.mean((1, 2, 3)) / 0.02
    assert float(change.max()) <= STRENGTH[1] * 0.02 + RESIDUAL + 1e-6
    assert float(change.min()) >= STRENGTH[0] * 0.02 - RESIDUAL - 1e-6
    assert float(strength.std()) > 0.3


def _dense() -> InvertedTrigger:
    operator = AdditiveOperator(1, (1, 12, 12))
    with torch.no_grad():
        operator.pattern.fill_(0.02)
    transition = torch.zeros(4, 4)
    transition[[0, 1, 3], 2] = 1
    return InvertedTrigger(operator.freeze(), 2, transition, 0.4, 1.0, 1.0)


def test_broadening_takes_half_of_the_weight_and_convinces_nobody(planted: Any) -> None:
    one = planted.inversion.triggers[0]
    pool = TriggerPool()
    pool.add([one])
    pool.broaden([one] * 8)
    assert pool.weights == pytest.approx((0.5, *[0.0625] * 8))
    assert len(pool.convincing) == 1
    pool.broaden([])
    assert len(pool.triggers) == 9
