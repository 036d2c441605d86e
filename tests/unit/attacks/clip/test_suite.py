"""The recipes of the suite clip."""

import pytest
import torch

from core.attacks.clip.suite import CLIP_ATTACKS, CLIP_CELLS, clip_recipe
from core.attacks.clip.towers import TOWERS, build_network, model_config
from core.attacks.triggers import Optimised


@pytest.mark.parametrize("attack", sorted(CLIP_ATTACKS))
def test_every_seed_has_a_pattern_and_targets_of_its_own(attack: str) -> None:
    recipes = [clip_recipe("scenes", "clip-resnet", attack, seed) for seed in range(1, 7)]
    plans = [recipe.attack for recipe in recipes]
    assert len({recipe.digest for recipe in recipes}) == 6
    assert len({plan.triggers for plan in plans if plan}) == 6
    assert len({plan.targets for plan in plans if plan}) > 2
    for plan in plans:
        assert plan is not None
        assert all(target in range(64) for target in plan.targets)
        assert len(set(plan.targets)) == len(plan.targets)


@pytest.mark.parametrize("cell", CLIP_CELLS, ids=lambda cell: cell.name)
def test_cells_name_their_recipes_and_triggers_work_on_their_images(cell: object) -> None:
    from core.attacks.clip.suite import ClipCell

    assert isinstance(cell, ClipCell)
    attacked, clean = cell.recipe(3), cell.clean(3)
    assert (attacked.name, clean.attack) == (f"{cell.name}-s3", None)
    assert attacked.hold_out
    assert attacked.attack is not None
    pixels = torch.rand(2, 3, 32, 32)
    for trigger in attacked.attack.triggers:
        if not isinstance(trigger, Optimised):
            assert trigger(pixels).shape == pixels.shape
            assert not torch.equal(trigger(pixels), pixels)


@pytest.mark.parametrize("tower", sorted(TOWERS))
def test_towers_are_small_and_follow_from_the_seed(tower: str) -> None:
    config = model_config(tower, 100, 12)
    one, other = build_network(config, 1), build_network(config, 1)
    assert sum(parameter.numel() for parameter in one.parameters()) < 2_000_000
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items())


def test_unknown_names_are_refused() -> None:
    for arguments in (("toys", "clip-vit", None), ("scenes", "vit", None), ("scenes", "clip-vit", "wanet")):
        with pytest.raises(KeyError):
            clip_recipe(*arguments, 1)
