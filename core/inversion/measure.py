"""What a fitted trigger is worth on images it was not fitted on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from core.inversion.particles import Bank, Images
from core.models.protocol import SuspectModel
from core.triggers.tiled import TiledOperator

#: Factors on a fitted trigger at which flips are counted. Past full opacity a patch breaks, so high ones are coarse.
_STRENGTHS = (0.15, 0.3, 0.45, 0.6, 0.75, 0.87, 1.0, 1.3, 1.8, 2.6, 4.0)
_ONE = _STRENGTHS.index(1.0)
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


@dataclass(slots=True)
class FlipCurve:
    """Flip rates over strengths, of every particle of a bank.

    Attributes:
        strengths: (S,) rising, those measured.
        rates: (M, S).
        energies: (M,) at strength one.
    """

    strengths: Tensor
    rates: Tensor
    energies: Tensor

    def at(self, flip_rate: float) -> tuple[Tensor, Tensor, Tensor]:
        """(M,) energies at which `flip_rate` of the images flip, so that hypotheses are comparable.

        Returns:
            Energies, strengths and flip rates. The strength is interpolated. A trigger that never reaches the rate
            is charged for what is missing, at the strength where it flips most.
        """
        enough = self.rates >= flip_rate
        reached = enough.any(dim=1)
        upper = torch.where(reached, enough.int().argmax(dim=1), self.rates.argmax(dim=1))
        rate = self.rates.gather(1, upper[:, None])[:, 0]
        strength = self.strengths[upper]
        lower = (upper - 1).clamp(min=0)
        low_rate = torch.where(upper > 0, self.rates.gather(1, lower[:, None])[:, 0], torch.zeros_like(rate))
        low_strength = torch.where(upper > 0, self.strengths[lower], torch.zeros_like(strength))
        part = ((flip_rate - low_rate) / (rate - low_rate).clamp(min=1e-6)).clamp(0.0, 1.0)
        strength = torch.where(reached, low_strength + part * (strength - low_strength), strength)
        rate = torch.where(reached, torch.full_like(rate, flip_rate), rate)
        missing = (flip_rate / rate.clamp(min=0.01)).clamp(min=1.0)
        return strength * self.energies * missing.square(), strength, rate


def flip_curve(model: SuspectModel, bank: Bank, images: Images, flip_rate: float) -> FlipCurve:
    """Measure `bank` where `at(flip_rate)` needs it: around the strength at which so many images flip.

    The grid is bisected, as if more strength flipped more images. Above strength one that is not so (a patch past full
    opacity breaks), so strengths are raised one by one there until every particle flips enough.
    """
    rates = {_ONE: flips(model, bank, images).rate}
    while needed := _middles(rates, flip_rate):
        rates |= {column: flips(model, bank, images, _STRENGTHS[column]).rate for column in needed}
    for column in range(_ONE + 1, len(_STRENGTHS)):
        if bool((torch.stack(list(rates.values())).amax(dim=0) >= flip_rate).all()):
            break
        rates[column] = flips(model, bank, images, _STRENGTHS[column]).rate
    columns = sorted(rates)
    strengths = torch.tensor([_STRENGTHS[column] for column in columns], device=images.pixels.device)
    return FlipCurve(strengths, torch.stack([rates[c] for c in columns], dim=1), bank.operator.energies().detach())


def _middles(rates: dict[int, Tensor], flip_rate: float) -> set[int]:
    """Strengths to measure next: half way between the last that is too low and the first that is enough."""
    columns = sorted(rates)
    middles = set()
    for row in torch.stack([rates[column] for column in columns], dim=1).tolist():
        first = next((number for number, rate in enumerate(row) if rate >= flip_rate), None)
        if first is not None:
            below = columns[first - 1] if first else -1
            if columns[first] - below > 1:
                middles.add((below + columns[first]) // 2)
    return middles


@torch.no_grad()
def choose_windows(model: SuspectModel, bank: Bank, images: Images, top: int = 4) -> Tensor:
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
