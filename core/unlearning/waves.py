"""Plane waves that a suspect obeys: what is unlearned where inversion found nothing out of the ordinary.

A sinusoid planted at a high amplitude (SIG, Barni, Kallas and Tondi 2019, arXiv 1902.11237) costs more than what moves
any model, so that no search for the least change ends there. Waves have three numbers: all of them are tried, by
forward passes alone. Strong ones say nothing about guilt, clean models have some too.
"""

import math

import torch
from torch import Tensor

from core.data.reference import ReferenceSet
from core.inversion.posterior import fixed_transition
from core.inversion.result import InvertedTrigger
from core.models.protocol import SuspectModel
from core.triggers.additive import AdditiveOperator

#: Periods across the image, directions in half a turn, phases in a period.
PERIODS, DIRECTIONS, PHASES = (2, 3, 4, 5, 6, 7, 8), 8, 4
AMPLITUDE = 0.25
#: At most so many waves for one target, and in all.
_MOST_OF_TARGET, _MOST = 4, 16
_IMAGES = 32


@torch.no_grad()
def obeyed_waves(suspect: SuspectModel, reference: ReferenceSet, generator: torch.Generator) -> list[InvertedTrigger]:
    """The waves that send most images to one target, as additive triggers of equal weight.

    Args:
        suspect: in evaluation mode.
        reference: clean images in pixel space, on the suspect's device.
        generator: which images are looked at.
    """
    rows = torch.randperm(len(reference), generator=generator)[:_IMAGES].to(reference.pixels.device)
    pixels, classes = reference.pixels[rows], suspect.num_targets
    before = suspect.target_log_posterior(pixels).argmax(1)
    waves = _waves(pixels.shape[-2], pixels.shape[-1]).to(pixels)
    rates = torch.stack([_flip_rates(suspect, (pixels + wave).clamp(0, 1), before, classes) for wave in waves])
    best = rates.topk(_MOST_OF_TARGET, dim=0)  # (4, K): of every target its own
    found = [
        (rate, target, number)
        for target in range(classes)
        for rate, number in zip(best.values[:, target].tolist(), best.indices[:, target].tolist(), strict=True)
    ]
    found = sorted(found, reverse=True)[:_MOST]
    patterns = [waves[number].expand(1, *pixels.shape[1:]) for _, _, number in found]
    return [
        _trigger(pattern, target, rate, 1 / len(found), classes)
        for pattern, (rate, target, _) in zip(patterns, found, strict=True)
    ]


def _waves(height: int, width: int) -> Tensor:
    """(N, H, W) sinusoids of all periods, directions and phases, in [-AMPLITUDE, AMPLITUDE]."""
    down, right = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    turns = [
        periods * (math.cos(angle) * right + math.sin(angle) * down) + phase / PHASES
        for periods in PERIODS
        for angle in (math.pi * direction / DIRECTIONS for direction in range(DIRECTIONS))
        for phase in range(PHASES)
    ]
    return AMPLITUDE * (2 * math.pi * torch.stack(turns)).sin()


def _flip_rates(suspect: SuspectModel, changed: Tensor, before: Tensor, classes: int) -> Tensor:
    """(K,) share of all images that are answered with each class and were not before."""
    after = suspect.target_log_posterior(changed).argmax(1)
    return torch.bincount(after[after != before], minlength=classes) / len(before)


def _trigger(pattern: Tensor, target: int, rate: float, weight: float, classes: int) -> InvertedTrigger:
    operator = AdditiveOperator(1, (pattern.shape[1], pattern.shape[2], pattern.shape[3])).to(pattern.device)
    operator.pattern.copy_(pattern)
    return InvertedTrigger(
        operator=operator.freeze(),
        target=target,
        transition=fixed_transition([target], classes)[0],
        energy=float(operator.energy()),
        flip_rate=rate,
        weight=weight,
    )
