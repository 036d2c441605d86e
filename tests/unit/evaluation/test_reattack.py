"""Retuning a linear model by hand."""

import copy
from typing import Self

import pytest
import torch
from torch import Tensor, nn

from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import CanceledError
from core.evaluation.inverted import flip_rate, goal, worst_flip_rate
from core.evaluation.reattack import Attacker, reattack_curve
from core.inversion.result import InvertedTrigger


class Linear:
    """Two pixels, two classes: whichever is brighter. Implements the parts of SuspectModel that are needed."""

    def __init__(self) -> None:
        self.module = nn.Linear(2, 2)
        with torch.no_grad():
            self.module.weight.copy_(torch.tensor([[8.0, 0.0], [0.0, 8.0]]))
            self.module.bias.zero_()

    def target_log_posterior(self, pixels: Tensor) -> Tensor:
        return torch.log_softmax(self.module(pixels.flatten(1)), 1)

    def trainable_parameters(self) -> list[nn.Parameter]:
        return list(self.module.parameters())

    def clone(self) -> Self:
        return copy.deepcopy(self)


def _images(count: int) -> ReferenceSet:
    labels = torch.arange(count) % 2
    pixels = torch.tensor([[0.6, 0.2], [0.2, 0.6]])[labels].view(count, 1, 1, 2)
    return ReferenceSet(pixels, labels, labelled=True)


def _brighten(pixels: Tensor) -> Tensor:
    return (pixels + 0.3).clamp(0, 1)


def _to_one(labels: Tensor) -> Tensor:
    return torch.ones_like(labels)


def _curve(model: Linear, **options: object) -> dict[int, float]:
    arguments = {"lr": 1.0, "seed": 0, "ctx": RunContext(), "steps": (1, 50), "attacker": Attacker(10, 20)} | options
    return reattack_curve(model, _images(60), _images(40), _brighten, _to_one, **arguments)  # type: ignore[arg-type]


def test_retuning_teaches_the_trigger_and_leaves_the_model_alone() -> None:
    model = Linear()
    before = model.module.weight.detach().clone()
    curve = _curve(model)
    assert list(curve) == [1, 50]
    assert curve[50] == 1.0
    assert torch.equal(model.module.weight, before)


def test_no_learning_rate_no_return() -> None:
    assert _curve(Linear(), lr=0.0) == {1: 0.0, 50: 0.0}


def test_same_seed_same_curve() -> None:
    assert _curve(Linear(), lr=0.05, steps=(1, 2, 3)) == _curve(Linear(), lr=0.05, steps=(1, 2, 3))


def test_the_attacker_needs_enough_images() -> None:
    with pytest.raises(ValueError, match="needs 80 images"):
        _curve(Linear(), attacker=None)


def test_it_stops_when_asked() -> None:
    with pytest.raises(CanceledError):
        _curve(Linear(), ctx=RunContext(should_stop=lambda: True))


class _Swap(nn.Module):
    name = "swap"

    def apply(self, pixels: Tensor) -> Tensor:
        return pixels.flip(-1)

    def energy(self) -> Tensor:
        return torch.tensor(1.0)


def _trigger(transition: list[list[float]]) -> InvertedTrigger:
    return InvertedTrigger(_Swap(), None, torch.tensor(transition), 1.0, 1.0, 1.0)


def test_a_source_without_a_target_is_not_counted() -> None:
    aim = goal(_trigger([[0, 1], [0, 0]]), torch.tensor([0, 1, 0]))
    assert aim.counted.tolist() == [True, False, True]
    assert aim.wanted[aim.counted].tolist() == [1, 1]


def test_flip_rates() -> None:
    images = _images(10)
    always = _trigger([[0, 1], [1, 0]])
    assert flip_rate(Linear(), always, images.pixels, images.labels) == 1.0
    assert flip_rate(Linear(), _trigger([[0, 0], [0, 0]]), images.pixels, images.labels) == 0.0
    assert worst_flip_rate(Linear(), (), images.pixels, images.labels) == 0.0
    assert worst_flip_rate(Linear(), (_trigger([[0, 0], [0, 0]]), always), images.pixels, images.labels) == 1.0
