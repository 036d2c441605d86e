"""Batches, modes and counting that the published defences share."""

import pytest
import torch
from torch import nn

from core.baselines.training import Passes, augmented, batches, frozen_statistics, gradients, training_mode
from core.context import RunContext
from core.data.reference import ReferenceSet
from tests.support.planted import planted


def test_passes_count_forward_as_a_third() -> None:
    passes = Passes()
    passes.both(10)
    passes.forward(9)
    assert passes.images == 13
    passes.forward(1)
    assert passes.images == 14


def test_batches_cover_every_image_once_an_epoch() -> None:
    labels = torch.arange(50)
    reference = ReferenceSet(torch.rand(50, 1, 8, 8), labels, labelled=True)
    generator = torch.Generator().manual_seed(0)
    seen = list(batches(reference, epochs=2, size=16, generator=generator, ctx=RunContext()))
    assert [len(batch) for batch in seen] == [13, 13, 12, 12] * 2
    assert torch.equal(torch.cat([batch.labels for batch in seen[:4]]).sort().values, labels)
    assert [batch.done for batch in seen] == pytest.approx([number / 8 for number in range(8)])


def test_augmentation_shifts_and_mirrors_each_image_by_itself() -> None:
    pixels = torch.zeros(64, 3, 16, 16)
    pixels[:, :, 8, 4] = 1.0
    views = augmented(pixels, torch.Generator().manual_seed(1))
    assert views.shape == pixels.shape
    assert torch.equal(views.sum((2, 3)), torch.ones(64, 3))
    places = views[:, 0].flatten(1).argmax(1)
    rows, columns = places // 16, places % 16
    assert set(rows.tolist()) == {6, 7, 8, 9, 10}
    assert set(columns.tolist()) == {2, 3, 4, 5, 6, 9, 10, 11, 12, 13}


def test_training_mode_moves_statistics_unless_they_are_frozen() -> None:
    model = planted(False).model.clone()
    statistics = model.module.get_buffer("bn1.running_mean").clone()
    pixels = torch.rand(8, 1, 16, 16)
    evaluated = model.target_log_posterior(pixels)
    with training_mode(model, 0), frozen_statistics(model.module):
        assert not torch.allclose(model.target_log_posterior(pixels), evaluated, atol=1e-3)
    assert torch.equal(model.module.get_buffer("bn1.running_mean"), statistics)
    assert torch.equal(model.target_log_posterior(pixels), evaluated)
    with training_mode(model, 0):
        model.target_log_posterior(pixels)
    assert not torch.equal(model.module.get_buffer("bn1.running_mean"), statistics)
    assert not model.module.training


def test_training_mode_draws_dropout_by_its_seed() -> None:
    model = planted(False).model.clone()
    model.module.conv2 = nn.Sequential(model.module.get_submodule("conv2"), nn.Dropout(0.5))
    pixels = torch.rand(8, 1, 16, 16)
    drawn = []
    for seed in (4, 4, 5):
        torch.rand(seed)
        with training_mode(model, seed), frozen_statistics(model.module):
            drawn.append(model.target_log_posterior(pixels))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_slope_of_an_unused_parameter_is_zero() -> None:
    used, unused = torch.ones(2, requires_grad=True), torch.ones(3, requires_grad=True)
    assert [slope.tolist() for slope in gradients(used.sum(), [used, unused])] == [[1.0, 1.0], [0.0, 0.0, 0.0]]
