"""What holds for every attack of the suite."""

import json
from itertools import combinations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from core.attacks.described import describe
from core.attacks.kinds import attack_from_json
from core.attacks.poisoning import Attack, poison
from core.attacks.suite import ATTACKS, CELLS, SMOKE, recipe
from core.attacks.triggers import ImageTrigger

SHAPES = [(1, 28, 28), (3, 32, 32)]
CLASSES = 10
cases = pytest.mark.parametrize("shape", SHAPES)
attacks = pytest.mark.parametrize("name", list(ATTACKS))


def _images(count: int, shape: tuple[int, int, int]) -> Tensor:
    """Smooth random pictures as 8-bit values in [0, 1], some pixels black and some white."""
    raw = torch.rand((count, *shape), generator=torch.Generator().manual_seed(0))
    smooth = avg_pool2d(raw, 5, 1, 2)
    return (((smooth - 0.5) * 3 + 0.5).clamp(0, 1) * 255).round() / 255


def _triggers(attack: Attack) -> list[ImageTrigger]:
    return [*attack.triggers, *attack.planted, *attack.covers]


@cases
@attacks
def test_triggers_are_deterministic_in_range_and_see_one_image_at_a_time(
    name: str, shape: tuple[int, int, int]
) -> None:
    pixels = _images(6, shape)
    before = pixels.clone()
    for trigger in _triggers(ATTACKS[name](7, CLASSES, shape)):
        stamped = trigger(pixels)
        assert stamped.shape == pixels.shape
        assert stamped.dtype == torch.float32
        assert float(stamped.min()) >= 0
        assert float(stamped.max()) <= 1
        assert torch.equal(trigger(pixels), stamped)
        assert torch.allclose(trigger(pixels[2:3]), stamped[2:3], atol=1e-5)
        assert bool(((stamped - pixels).abs().amax((1, 2, 3)) > 0.03).all())
    assert torch.equal(pixels, before)


@cases
@attacks
def test_an_attack_survives_json(name: str, shape: tuple[int, int, int]) -> None:
    attack = ATTACKS[name](7, CLASSES, shape)
    assert attack_from_json(json.loads(json.dumps(describe(attack)))) == attack


@attacks
def test_poisoned_rows_and_covers(name: str) -> None:
    shape, count = (1, 28, 28), 600
    attack = ATTACKS[name](7, CLASSES, shape)
    pixels = (_images(count, shape) * 255).to(torch.uint8)
    labels = torch.arange(count) % CLASSES
    before = pixels.clone()
    poisoned = poison(pixels, labels, attack, CLASSES, seed=3)
    rows, covers = poisoned.rows, poisoned.covers
    assert len(rows) == len(rows.unique()) == round(attack.ratio * count)
    assert len(covers) == len(covers.unique()) == round(attack.cover_ratio * count)
    assert not set(rows.tolist()) & set(covers.tolist())
    kept = torch.ones(count, dtype=torch.bool)
    kept[rows] = kept[covers] = False
    assert torch.equal(pixels, before)
    assert torch.equal(poisoned.pixels[kept], pixels[kept])
    assert torch.equal(poisoned.labels[kept], labels[kept])
    assert torch.equal(poisoned.labels[covers], labels[covers])
    assert bool(
        (poisoned.pixels[torch.cat([rows, covers])] != pixels[torch.cat([rows, covers])]).flatten(1).any(1).all()
    )
    if attack.clean_label:
        assert torch.equal(poisoned.labels[rows], labels[rows])
        assert labels[rows].unique().tolist() == [attack.targets[0]]
    elif None in attack.targets:
        assert torch.equal(poisoned.labels[rows], (labels[rows] + 1) % CLASSES)
    else:
        assert bool((poisoned.labels[rows] != labels[rows]).all())
        assert set(poisoned.labels[rows].tolist()) == set(attack.targets)


@attacks
def test_every_seed_draws_its_own(name: str) -> None:
    drawn = [ATTACKS[name](seed, CLASSES, (3, 32, 32)) for seed in range(1, 9)]
    if name == "bpp":  # three depths and ten targets: twins happen
        assert len(set(drawn)) >= 6
        return
    for one, other in combinations(drawn, 2):
        assert not set(one.triggers) & set(other.triggers)
    if name != "all-to-all":
        assert len({attack.targets for attack in drawn}) > 3


@attacks
def test_targets_are_classes(name: str) -> None:
    for seed in range(1, 30):
        targets = ATTACKS[name](seed, CLASSES, (3, 32, 32)).targets
        assert len(set(targets)) == len(targets)
        assert all(target is None or 0 <= target < CLASSES for target in targets)


def test_the_full_suite_has_every_attack_in_two_cells_every_network_and_natural_images_in_most() -> None:
    names = [cell.attack for cell in CELLS]
    assert {name: names.count(name) for name in ATTACKS} == dict.fromkeys(ATTACKS, 2) | {"blended": 3}
    assert {cell.model for cell in CELLS} == {"preact", "wrn", "vgg", "convnext", "vit"}
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    natural = [cell for cell in CELLS if cell.data in ("cifar10", "fashion-mnist")]
    assert len(natural) >= len(CELLS) / 2
    for cell in (*CELLS, *SMOKE):
        attacked, clean = cell.recipe(3), cell.clean(3)
        assert attacked.attack is not None
        assert clean.attack is None
        assert (attacked.architecture, attacked.epochs, attacked.images) == (
            clean.architecture,
            clean.epochs,
            clean.images,
        )


@pytest.mark.parametrize(
    ("arguments", "digest"),
    [
        (("cifar10", "preact", None, 300), "367d044b11"),
        (("fashion-mnist", "preact", None, 300), "df79945ee1"),
        (("fashion-mnist", "preact", "warp", 401), "2990fc8029"),
        (("fashion-mnist", "preact", "wanet", 401), "11d02bc93b"),
    ],
)
def test_digests_are_those_of_the_models_already_trained(
    arguments: tuple[str, str, str | None, int], digest: str
) -> None:
    """A change here means that all of them are trained again: intended?"""
    assert recipe(*arguments).digest.startswith(digest)
