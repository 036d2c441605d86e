"""Plane waves a model obeys."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from core.config import Preprocess
from core.data.reference import ReferenceSet
from core.models.classifier import Classifier
from core.unlearning.waves import AMPLITUDE, obeyed_waves


class _HearsOneWave(nn.Module):
    """Class 3 for whatever holds five periods from left to right; else by brightness."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 4, bias=False)
        turns = 2 * math.pi * 5 * torch.arange(16) / 16
        self.register_buffer("probe", torch.stack([turns.sin(), turns.cos()]) / 8)

    def forward(self, images: Tensor) -> Tensor:
        rows = images.mean((1, 2))
        heard = (rows @ self.probe.T).norm(dim=1)
        bright = images.mean((1, 2, 3))
        with torch.no_grad():
            self.last.weight.copy_(torch.eye(4)[:, [0, 1, 3]])
        return self.last(torch.stack([bright, 1 - bright, 20 * (heard - 0.1)], 1))


def _images() -> ReferenceSet:
    generator = torch.Generator().manual_seed(1)
    flat = 0.3 + 0.4 * torch.rand((40, 1, 1, 1), generator=generator)
    pixels = flat.expand(40, 1, 16, 16).contiguous()
    return ReferenceSet(pixels, torch.zeros(40, dtype=torch.long), True)


def _found() -> Any:
    model = Classifier(_HearsOneWave(), Preprocess((0.0,), (1.0,), (16, 16)), (1, 16, 16), 4)
    return obeyed_waves(model, _images(), torch.Generator().manual_seed(0))


def test_the_wave_that_works_comes_first_with_its_target() -> None:
    best = _found()[0]
    assert best.target == 3
    assert best.flip_rate == 1.0
    row = best.operator.pattern[0, 0, 0]
    assert int(torch.fft.rfft(row).abs().argmax()) == 5
    assert float(row.abs().max()) <= AMPLITUDE


def test_waves_share_the_weight_and_no_target_takes_all_places() -> None:
    found = _found()
    assert len(found) == 16
    assert sum(trigger.weight for trigger in found) == 1.0
    assert max(sum(trigger.target == target for trigger in found) for target in range(4)) == 4
