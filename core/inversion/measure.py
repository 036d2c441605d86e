"""What a fitted trigger is worth on images it was not fitted on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.inversion.particles import Bank, Images
from core.models.protocol import SuspectModel
from core.triggers.tiled import TiledOperator

#: Largest factor a fitted trigger is stretched by before it counts as not working.
MAX_STRENGTH = 4.0
_HALVINGS = 7
_CHUNK = 256  # images a forward pass


@dataclass(slots=True)
class Flips:
    """Answers on changed images.

    Attributes:
        rate: (M,) share of the images with somewhere to go that went there.
        answers: (M, N) the suspect's answers.
        counted: (M, N) whether the image had somewhere to go.
        hits: (M, N) whether it went there.
    """

    rate: Tensor
    answers: Tensor
    counted: Tensor
    hits: Tensor


@torch.no_grad()
def answers(model: SuspectModel, pixels: Tensor) -> Tensor:
    """(N,) the suspect's most probable target for each of (N, C, H, W) images."""
    parts = [
        model.target_log_posterior(pixels[start : start + _CHUNK]).argmax(-1) for start in range(0, len(pixels), _CHUNK)
    ]
    return torch.cat(parts)


@torch.no_grad()
def flips(model: SuspectModel, bank: Bank, images: Images, strength: Tensor | float = 1.0) -> Flips:
    """Apply every particle at `strength` (scalar or (M,)) to all images.

    A hit is the hypothesis' target; where p(z|y) is learned, its most probable target for the image's source.
    """
    operator = bank.operator
    particles, count = operator.particles, len(images)
    factor = torch.as_tensor(strength, device=images.pixels.device, dtype=torch.float32).expand(particles)
    wanted = bank.transition.argmax(-1)[:, images.sources]
    counted = (bank.transition.sum(-1) > 0)[:, images.sources]
    given = torch.empty(particles, count, dtype=torch.long, device=images.pixels.device)
    chunk = max(1, _CHUNK // particles)
    for start in range(0, count, chunk):
        part = images.pixels[start : start + chunk]
        pixels = part.expand(particles, *part.shape)
        changed = operator.render(pixels, factor[:, None].expand(particles, len(part)))
        given[:, start : start + chunk] = (
            model.target_log_posterior(changed.flatten(0, 1)).argmax(-1).reshape(particles, -1)
        )
    hits = (given == wanted) & counted
    rate = hits.sum(1) / counted.sum(1).clamp(min=1)
    return Flips(rate, given, counted, hits)


def strength_for(model: SuspectModel, bank: Bank, images: Images, flip_rate: float) -> tuple[Tensor, Tensor]:
    """Smallest strength at which `flip_rate` of the images flip, by bisection.

    Returns:
        (M,) strengths in (0, MAX_STRENGTH], and (M,) flip rates there. Where the rate is not reached at
        MAX_STRENGTH the strength is MAX_STRENGTH and the rate is lower.
    """
    particles = bank.operator.particles
    low = torch.zeros(particles, device=images.pixels.device)
    high = torch.full_like(low, MAX_STRENGTH)
    rate = flips(model, bank, images, high).rate
    # A patch saturates: past full opacity more strength changes nothing or breaks it, so try the fitted strength too.
    fitted = flips(model, bank, images, 1.0).rate
    better = fitted >= flip_rate
    high, rate = torch.where(better, torch.ones_like(high), high), torch.where(better, fitted, rate)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = flips(model, bank, images, middle).rate
        enough = reached >= flip_rate
        high, rate = torch.where(enough, middle, high), torch.where(enough, reached, rate)
        low = torch.where(enough, low, middle)
    return high, rate


def energy_at(model: SuspectModel, bank: Bank, images: Images, flip_rate: float) -> tuple[Tensor, Tensor, Tensor]:
    """(M,) energies at equal flip rate, so that hypotheses are comparable; strengths and flip rates beside them.

    A trigger that does not reach the rate at MAX_STRENGTH is charged for what is missing.
    """
    strength, rate = strength_for(model, bank, images, flip_rate)
    missing = (flip_rate / rate.clamp(min=0.01)).clamp(min=1.0)
    return strength * bank.operator.energies().detach() * missing.square(), strength, rate


@torch.no_grad()
def choose_windows(model: SuspectModel, bank: Bank, images: Images, top: int = 6) -> Tensor:
    """Set each tiled particle's window to the one that flips most among its `top`; returns (M,) flip rates there."""
    operator = bank.operator
    if not isinstance(operator, TiledOperator):
        raise TypeError("only tiled operators have windows")
    best_rate = torch.full((operator.particles,), -1.0, device=operator.scale.device)
    best = operator.window.clone()
    for window in operator.candidates(top).unbind(1):
        operator.window.copy_(window)
        rate = flips(model, bank, images).rate
        best = torch.where(rate > best_rate, window, best)
        best_rate = torch.maximum(rate, best_rate)
    operator.window.copy_(best)
    return best_rate
