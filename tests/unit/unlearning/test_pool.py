"""Where triggered images come from."""

from dataclasses import replace
from typing import Any

import torch

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
    pool.add([replace(one, weight=0.6), replace(one, weight=0.2)])
    assert torch.allclose(pool._weights, torch.tensor([0.75, 0.25]))
    pool.add([])
    pool.add([one])
    assert torch.allclose(pool._weights, torch.tensor([0.375, 0.125, 0.5]))
    assert len(pool.triggers) == 3
