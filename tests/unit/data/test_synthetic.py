import torch

from core.data.synthetic import PER_CLASS, dead_leaves, fractal_noise, synthesise
from tests.support.planted import CLASSES, SHAPE, planted


def test_images_are_balanced_and_the_suspect_agrees() -> None:
    suspect = planted(False).model
    reference = synthesise(suspect, seed=3)
    assert reference.pixels.shape == (PER_CLASS * CLASSES, *SHAPE)
    assert float(reference.pixels.min()) >= 0.0
    assert float(reference.pixels.max()) <= 1.0
    assert torch.bincount(reference.labels).tolist() == [PER_CLASS] * CLASSES
    assert not reference.labelled
    answers = suspect.target_log_posterior(reference.pixels).argmax(-1)
    assert float((answers == reference.labels).float().mean()) > 0.8
    assert not reference.pixels.requires_grad


def test_same_seed_same_images() -> None:
    suspect = planted(False).model
    first, second, other = (synthesise(suspect, seed=seed).pixels for seed in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_starting_points_have_natural_spectra() -> None:
    generator = torch.Generator().manual_seed(0)
    for make in (dead_leaves, fractal_noise):
        images = make(64, (3, 32, 32), generator)
        assert images.shape == (64, 3, 32, 32)
        assert float(images.min()) >= 0.0
        assert float(images.max()) <= 1.0
        power = torch.fft.fft2(images - images.mean((2, 3), keepdim=True)).abs().square().mean((0, 1))
        low, high = power[1:4, 1:4].mean(), power[10:16, 10:16].mean()
        assert float(low) > 10 * float(high)  # white noise would have them equal
