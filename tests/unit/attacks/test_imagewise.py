"""Triggers that depend on the image do what their papers say."""

import pytest
import torch
from torch import Tensor

from core.attacks.imagewise import Pieces, Quantised, Residual, Warp, image_seeds
from core.attacks.triggers import LowFrequency, Signal, Trigger


@pytest.fixture
def pixels() -> Tensor:
    return (torch.rand((5, 3, 16, 16), generator=torch.Generator().manual_seed(1)) * 255).round() / 255


def test_image_seeds_follow_the_image_alone(pixels: Tensor) -> None:
    seeds = image_seeds(pixels, 3)
    assert len(set(seeds.tolist())) == 5
    assert torch.equal(image_seeds(pixels.flip(0), 3), seeds.flip(0))
    assert torch.equal(image_seeds(pixels + 0.001, 3), seeds)
    assert not bool((image_seeds(pixels, 4) == seeds).any())


def test_quantised_is_floyd_and_steinbergs_dithering(pixels: Tensor) -> None:
    levels = 4
    work = pixels[1, 2].double().clone()
    for row in range(16):
        for column in range(16):
            old = work[row, column].item()
            new = min(max(round(old * (levels - 1)), 0), levels - 1) / (levels - 1)
            work[row, column] = new
            for down, right, share in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if row + down < 16 and 0 <= column + right < 16:
                    work[row + down, column + right] += (old - new) * share / 16
    dithered = Quantised(levels)(pixels)
    agreement = (dithered[1, 2].double() - work).abs() < 1e-6
    assert float(agreement.double().mean()) > 0.98  # rounding to the nearest even level may differ at a tie
    assert set((dithered * (levels - 1)).round().flatten().tolist()) == {0, 1, 2, 3}
    assert torch.allclose(dithered.mean((2, 3)), pixels.mean((2, 3)), atol=0.03)


def test_a_warp_moves_by_its_strength_and_leaves_a_flat_image_alone() -> None:
    warp = Warp(5, 2.0, control=4)
    field = warp.field(28, 28)
    corners = field[:, :: 27 // 3, :: 27 // 3]  # 28 = 3 * 9 + 1: the control points themselves
    assert float(corners.abs().mean()) == pytest.approx(2.0, rel=1e-3)
    flat = torch.full((2, 1, 28, 28), 0.3)
    assert torch.allclose(warp(flat), flat, atol=1e-6)
    ramp = (torch.arange(28.0) / 100).expand(1, 1, 28, 28)
    reached = (torch.arange(28.0) + field[1]).clamp(0, 27) / 100
    assert torch.allclose(warp(ramp)[0, 0], reached, atol=1e-4)


def test_noise_gives_every_image_a_warp_of_its_own() -> None:
    ramp = torch.stack([torch.arange(28.0).expand(1, 28, 28) / 100 + shift for shift in (0.0, 0.1)])
    plain, noisy = Warp(5, 2.0)(ramp), Warp(5, 2.0, noise=1.0)(ramp)
    assert torch.allclose(plain[0], plain[1] - 0.1, atol=1e-5)
    assert not torch.allclose(noisy[0], noisy[1] - 0.1, atol=1e-3)
    assert float((noisy - plain).abs().max()) <= 0.011  # one pixel of the ramp


def test_residuals_are_bounded_and_differ_between_images(pixels: Tensor) -> None:
    residuals = Residual(3, 0.1)(pixels) - pixels
    assert float(residuals.abs().max()) <= 0.1 + 1e-6
    flat = residuals.flatten(1)
    similarity = torch.nn.functional.cosine_similarity(flat[:, None], flat[None], dim=2)
    assert float(similarity[~torch.eye(5, dtype=torch.bool)].abs().max()) < 0.6


def test_pieces_blend_half_of_the_picture_and_another_half_in_every_image(pixels: Tensor) -> None:
    picture = Trigger("blended", 8, alpha=0.15, grain=4)
    stamped, whole = Pieces(picture)(pixels), picture(pixels)
    changed = (stamped != pixels).any(1)
    assert torch.equal(stamped[changed[:, None].expand_as(stamped)], whole[changed[:, None].expand_as(stamped)])
    tiles = changed.reshape(5, 4, 4, 4, 4).float().mean((2, 4)) > 0.5
    assert tiles.flatten(1).sum(1).tolist() == [8] * 5
    assert len({tuple(mask.flatten().tolist()) for mask in tiles}) > 1


def test_a_signal_is_a_whole_number_of_periods_along_one_axis() -> None:
    pattern = Signal(4, 0.2).pattern(32, 32)
    assert torch.equal(pattern, pattern[:1].expand(32, 32)) or torch.equal(pattern, pattern[:, :1].expand(32, 32))
    assert 0.17 < float(pattern.abs().max()) <= 0.2
    spectrum = torch.fft.rfft2(pattern).abs()
    assert int((spectrum > 0.01 * spectrum.max()).sum()) in (1, 2)  # along the rows the conjugate is there too


def test_low_frequencies_are_all_there_is() -> None:
    trigger = LowFrequency(4, 0.15, modes=3)
    pattern = trigger.pattern((3, 32, 32))
    assert float(pattern.abs().max()) == pytest.approx(0.15)
    assert torch.allclose(pattern.mean((1, 2)), torch.zeros(3), atol=1e-5)
    basis = torch.cos(torch.pi * torch.arange(32)[:, None] * (torch.arange(32) + 0.5) / 32)
    modes = torch.einsum("chw,uh,vw->cuv", pattern, basis, basis)
    assert float(modes[:, 3:].abs().max()) < 1e-3
    assert float(modes[:, :, 3:].abs().max()) < 1e-3
    assert float(modes[:, :3, :3].abs().max()) > 1
