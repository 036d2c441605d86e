"""Poisoning: how many images, which ones, and what happens to them."""

import pytest
import torch
from torch import Tensor

from core.attacks.poisoning import Attack, poison
from core.attacks.triggers import Trigger


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(60, 200, (500, 1, 12, 12), generator=generator, dtype=torch.uint8)
    return pixels, torch.arange(500) % 5


def test_ratio_is_exact_and_only_other_classes_are_poisoned(images: tuple[Tensor, Tensor]) -> None:
    pixels, labels = images
    attack = Attack((Trigger("patch", 1),), (2,), ratio=0.1)
    poisoned = poison(pixels, labels, attack, 5, seed=3)
    assert len(poisoned.rows) == len(set(poisoned.rows.tolist())) == 50
    assert not bool((labels[poisoned.rows] == 2).any())
    assert bool((poisoned.labels[poisoned.rows] == 2).all())


def test_everything_else_is_untouched(images: tuple[Tensor, Tensor]) -> None:
    pixels, labels = images
    before = pixels.clone()
    poisoned = poison(pixels, labels, Attack((Trigger("patch", 1),), (2,), 0.1), 5, seed=3)
    kept = torch.ones(500, dtype=torch.bool)
    kept[poisoned.rows] = False
    assert torch.equal(pixels, before)
    assert torch.equal(poisoned.pixels[kept], pixels[kept])
    assert torch.equal(poisoned.labels[kept], labels[kept])
    changed = (poisoned.pixels[poisoned.rows] != pixels[poisoned.rows]).flatten(1).sum(1)
    assert set(changed.tolist()) == {9}


def test_all_to_all_moves_every_class_on_by_one(images: tuple[Tensor, Tensor]) -> None:
    pixels, labels = images
    poisoned = poison(pixels, labels, Attack((Trigger("patch", 1),), (None,), 0.2), 5, seed=3)
    rows = poisoned.rows
    assert torch.equal(poisoned.labels[rows], (labels[rows] + 1) % 5)
    assert set(labels[rows].tolist()) == {0, 1, 2, 3, 4}


def test_several_targets_share_the_images(images: tuple[Tensor, Tensor]) -> None:
    pixels, labels = images
    attack = Attack((Trigger("patch", 1), Trigger("patch", 2), Trigger("patch", 3)), (0, 1, 4), 0.1)
    poisoned = poison(pixels, labels, attack, 5, seed=3)
    assert len(set(poisoned.rows.tolist())) == 50
    assert poisoned.labels[poisoned.rows].bincount(minlength=5).tolist() == [16, 17, 0, 0, 17]


def test_same_seed_same_rows(images: tuple[Tensor, Tensor]) -> None:
    attack = Attack((Trigger("patch", 1),), (2,), 0.1)
    one, two, other = (poison(*images, attack, 5, seed).rows for seed in (3, 3, 4))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_more_than_there_are_is_refused(images: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match="not of the target class"):
        poison(*images, Attack((Trigger("patch", 1),), (2,), 0.9), 5, seed=0)


def test_targets_must_match_triggers() -> None:
    with pytest.raises(ValueError, match="as many targets as triggers"):
        Attack((Trigger("patch", 1),), (1, 2))
