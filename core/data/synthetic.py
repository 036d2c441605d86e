"""Images for a scan without a reference set: natural-looking statistics, pulled towards each class by the suspect."""

import torch
from torch import Tensor
from torch.nn import functional

from core import devices
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel

#: Images per class, at most IMAGES in all.
PER_CLASS, IMAGES = 20, 400
_STEPS, _STEP_SIZE, _BATCH = 24, 0.02, 64
_LEAVES = 24  # discs an image
_SMOOTH = 3.0  # weight of total variation


def synthesise(model: SuspectModel, *, seed: int) -> ReferenceSet:
    """A balanced set of synthesised images, labelled with the class each was pulled towards.

    Half of the starting points are dead leaves (opaque discs of all sizes: edges and occlusion), half are noise with
    a 1/f spectrum (smooth shading). Each then follows the suspect's own gradient towards its class for a few steps,
    kept smooth, so that every class is represented.

    Args:
        model: the suspect; images are made on its parameters' device.
        seed: same seed, same images.

    Returns:
        Pixels (N, C, H, W) in [0, 1], N = min(PER_CLASS * K, IMAGES) rounded up to whole classes where K allows it;
        not labelled: accuracy on them means nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    count = min(PER_CLASS * model.num_targets, max(IMAGES, model.num_targets))
    device = next(model.module.parameters()).device
    start = torch.cat(
        [
            dead_leaves(count // 2, model.input_shape, generator),
            fractal_noise(count - count // 2, model.input_shape, generator),
        ]
    )
    start = start[torch.randperm(count, generator=generator)].to(device)
    labels = (torch.arange(count) % model.num_targets).to(device)
    with devices.fast_inference(model.module, device):
        pulled = [
            _pull(model, start[first : first + _BATCH], labels[first : first + _BATCH])
            for first in range(0, count, _BATCH)
        ]
    pixels = torch.cat(pulled).contiguous()
    return ReferenceSet(pixels, labels, labelled=False)


def dead_leaves(count: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """(count, C, H, W) in [0, 1]: opaque discs of random colour, radii with density 1/r^3, later ones in front."""
    channels, height, width = shape
    rows = torch.linspace(0, 1, height)[:, None]
    columns = torch.linspace(0, 1, width)[None]
    images = torch.rand(count, channels, 1, 1, generator=generator).expand(count, *shape).clone()
    smallest, largest = 0.06, 0.6
    for _ in range(_LEAVES):
        uniform = torch.rand(count, generator=generator)
        radius = (smallest**-2 + uniform * (largest**-2 - smallest**-2)).pow(-0.5)[:, None, None]
        centre = torch.rand(count, 2, 1, 1, generator=generator)
        inside = (rows - centre[:, 0]).square() + (columns - centre[:, 1]).square() < radius.square()
        colour = torch.rand(count, channels, 1, 1, generator=generator)
        images = torch.where(inside[:, None], colour, images)
    return images


def fractal_noise(count: int, shape: tuple[int, int, int], generator: torch.Generator) -> Tensor:
    """(count, C, H, W) in [0, 1]: Gaussian noise with a 1/f amplitude spectrum, stretched to the full range."""
    channels, height, width = shape
    rows = torch.fft.fftfreq(height)[:, None]
    columns = torch.fft.rfftfreq(width)[None]
    frequency = (rows.square() + columns.square()).sqrt().clamp(min=1.0 / max(height, width))
    spectrum = torch.fft.rfft2(torch.randn(count, channels, height, width, generator=generator)) / frequency
    images: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    stretched: Tensor = (images - low) / (high - low).clamp(min=1e-6)
    return stretched


def _pull(model: SuspectModel, pixels: Tensor, labels: Tensor) -> Tensor:
    """Follow the gradient of log p(label) for a few normalised steps, with a penalty on roughness."""
    for _ in range(_STEPS):
        pixels = pixels.detach().requires_grad_(True)
        log_posterior = model.target_log_posterior(pixels)
        wanted = functional.nll_loss(log_posterior, labels, reduction="sum")
        rough = (pixels.diff(dim=-1).square().mean((1, 2, 3)) + pixels.diff(dim=-2).square().mean((1, 2, 3))).sum()
        (gradient,) = torch.autograd.grad(wanted + _SMOOTH * rough, pixels)
        scale = gradient.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)
        pixels = (pixels - _STEP_SIZE * gradient / scale).clamp(0.0, 1.0)
    return pixels.detach()
