import pytest
import torch

from core.triggers.additive import AdditiveOperator
from core.triggers.base import TRIGGERS, randomise
from core.triggers.patch import UNIT_AREA, PatchOperator
from core.triggers.tiled import TiledOperator
from core.triggers.warp import WarpOperator


def test_energies_do_not_depend_on_resolution() -> None:
    for side in (16, 32, 64):
        additive = AdditiveOperator(1, (3, side, side))
        patch = PatchOperator(1, (3, side, side))
        warp = WarpOperator(1, (3, side, side))
        with torch.no_grad():
            additive.pattern.fill_(0.1)
            patch.mask_logit.fill_(-20.0)
            patch.mask_logit[:, :, : side // 4, : side // 4] = 20.0  # a sixteenth of the area
            warp.field.fill_(0.125)  # half sides: both axes move by 1/16 of the side
        assert additive.energy().item() == pytest.approx(2.0, rel=1e-4)
        assert patch.energy().item() == pytest.approx(1 / 16 / UNIT_AREA, rel=1e-3)
        assert warp.energy().item() == pytest.approx(2 * 2**0.5, rel=1e-3)


def test_a_tile_and_its_patch_change_images_alike() -> None:
    tile = TiledOperator(2, (3, 32, 32))
    randomise(tile, torch.Generator().manual_seed(1), 1.0)
    tile.window.copy_(torch.tensor([3, tile.windows - 1]))
    pixels = torch.rand(2, 4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    assert torch.allclose(tile.render(pixels), tile.to_patch().render(pixels), atol=2e-3)
    assert torch.allclose(tile.energies(), tile.to_patch().energies(), atol=0.03)


def test_windows_reach_every_border() -> None:
    tile = TiledOperator(1, (1, 28, 40))
    rows, columns = zip(*tile.offsets, strict=True)
    assert (min(rows), max(rows)) == (0, 28 - tile.side)
    assert (min(columns), max(columns)) == (0, 40 - tile.side)


def test_a_tile_stays_inside_its_window() -> None:
    tile = TiledOperator(1, (1, 32, 32))
    with torch.no_grad():
        tile.mask_logit.fill_(9.0)
    placement = torch.tensor([[0, 5]])
    changed = tile.render(torch.full((1, 2, 1, 32, 32), 0.1), placement=placement)[0]
    for sample, window in enumerate(placement[0].tolist()):
        row, column = tile.offsets[window]
        where = (changed[sample, 0] - 0.1).abs() > 1e-4
        assert int(where.sum()) == tile.side**2
        assert bool(where[row : row + tile.side, column : column + tile.side].all())


def test_windows_with_evidence_are_drawn_more_often() -> None:
    tile = TiledOperator(1, (1, 32, 32))
    generator = torch.Generator().manual_seed(0)
    every = torch.arange(tile.windows)[None]
    evidence = torch.full((1, tile.windows), -3.0)
    evidence[0, 7] = 0.0
    tile.observe(every, evidence, torch.ones_like(evidence))
    drawn = tile.draw(400, generator)
    assert drawn is not None
    assert float((drawn == 7).float().mean()) > 0.5
    assert len(torch.unique(drawn)) > tile.windows // 4  # it goes on exploring
    assert int(tile.candidates(1)) == 7


def test_a_constant_warp_shifts_the_image() -> None:
    warp = WarpOperator(1, (1, 32, 32))
    pixels = torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        warp.field[:, 0] = 2 * 2 / 32  # two pixels to the right, in units of half a side
    assert torch.allclose(warp.apply(pixels)[..., :-2], pixels[..., 2:], atol=1e-4)


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(KeyError, match="additive"):
        TRIGGERS.get("sticker")
