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
from core.evaluation.reattack import RATES, STEPS, Attacker, reattack_curve, reattack_grid, worst
from core.inversion.result import InvertedTrigger
from tests.support.planted import Planted, fine_tuned, planted, shapes, stamp


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


def _of_tiny(count: int, seed: int) -> ReferenceSet:
    pixels, labels = shapes(count, seed)
    return ReferenceSet(pixels, labels, labelled=True)


def _to_target(labels: Tensor) -> Tensor:
    return torch.full_like(labels, 2)


def _grid(suspect: Planted, **options: object) -> dict[float, dict[int, float]]:
    arguments = {"seed": 0, "ctx": RunContext()} | options
    return reattack_grid(
        suspect.model,  # type: ignore[arg-type]
        _of_tiny(200, 31),
        _of_tiny(200, 32),
        stamp,
        _to_target,
        **arguments,  # type: ignore[arg-type]
    )


def test_a_fine_tuned_backdoor_is_revived_and_a_clean_model_learns_more_slowly() -> None:
    """The attack is strong enough to tell sleeping from gone."""
    tuned = fine_tuned(planted(True))
    assert tuned.attack_success < 0.8
    grid = _grid(tuned)
    assert list(grid) == list(RATES)
    assert all(list(curve) == list(STEPS) for curve in grid.values())
    assert worst(grid) > 0.95
    assert grid[0.01][5] > worst(_grid(planted(False), rates=(0.01,), steps=(5,))) + 0.5


def test_the_victim_is_a_copy_down_to_the_statistics() -> None:
    model = planted(True).model
    before = model.state_dict_for_export()
    _grid(planted(True), rates=(0.03,), steps=(3,))
    after = model.state_dict_for_export()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in model.module.modules())


def test_normalisation_in_training_mode_is_another_attack() -> None:
    curves = [
        _grid(planted(False), rates=(0.01,), steps=(5,), attacker=Attacker(train_bn=train_bn))
        for train_bn in (True, False)
    ]
    assert curves[0] != curves[1]


def test_a_shorter_attack_is_the_beginning_of_a_longer_one() -> None:
    long = _grid(planted(False), rates=(0.03,), steps=(2, 5, 9))[0.03]
    assert _grid(planted(False), rates=(0.03,), steps=(2, 5))[0.03] == {2: long[2], 5: long[5]}
    assert worst({0.03: long}) >= worst({0.03: {2: long[2]}})


@pytest.mark.parametrize("steps", [(5, 5), (10, 5), (0, 5)])
def test_steps_rise_from_one(steps: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="do not rise"):
        _curve(Linear(), steps=steps)


def test_the_worst_of_a_grid() -> None:
    assert worst({0.1: {5: 0.2, 10: 0.4}, 0.2: {5: 0.3, 10: 0.1}}) == 0.4
    assert worst({}) == 0.0
