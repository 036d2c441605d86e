"""True triggers change what they say they change."""

import pytest
import torch

from core.attacks.triggers import Trigger

SHAPES = [(1, 28, 28), (3, 32, 32)]


@pytest.mark.parametrize("shape", SHAPES)
def test_grid_is_a_checkerboard_in_its_corner(shape: tuple[int, int, int]) -> None:
    stamped = Trigger("grid", corner="top-left")(torch.full((2, *shape), 0.5))
    expected = torch.tensor([[1.0, 0, 1], [0, 1, 0], [1, 0, 1]])
    assert torch.equal(stamped[1, 0, 1:4, 1:4], expected)
    assert int((stamped[0, 0] != 0.5).sum()) == 9


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(5))
def test_patch_touches_nine_pixels_and_has_contrast(shape: tuple[int, int, int], seed: int) -> None:
    stamped = Trigger("patch", seed)(torch.full((1, *shape), 0.5))[0]
    changed = (stamped != 0.5).any(0)
    rows, columns = changed.nonzero().unbind(1)
    assert int(changed.sum()) == 9
    assert int(rows.max() - rows.min()) == int(columns.max() - columns.min()) == 2
    assert stamped[0][changed].unique().tolist() == [0.0, 1.0]


def test_seeds_give_other_patterns_and_places() -> None:
    pixels = torch.full((1, 1, 28, 28), 0.5)
    stamped = [Trigger("patch", seed)(pixels) for seed in range(8)]
    assert len({tuple(image.flatten().tolist()) for image in stamped}) == 8


@pytest.mark.parametrize("grain", [0, 6])
def test_blended_mixes_by_alpha_everywhere(grain: int) -> None:
    trigger = Trigger("blended", 3, alpha=0.25, grain=grain)
    dark, light = trigger(torch.zeros(1, 3, 32, 32)), trigger(torch.ones(1, 3, 32, 32))
    assert torch.allclose(light - dark, torch.full_like(dark, 0.75))
    assert float(dark.max()) <= 0.25
    assert float(dark.std()) > 0.02


def test_a_trigger_leaves_its_argument_alone_and_stays_in_range() -> None:
    pixels = torch.rand(4, 3, 32, 32)
    before = pixels.clone()
    for kind in ("patch", "grid", "blended"):
        stamped = Trigger(kind, 1)(pixels)
        assert float(stamped.min()) >= 0
        assert float(stamped.max()) <= 1
    assert torch.equal(pixels, before)
