"""DECREE: the smallest patch that makes all images' embeddings alike (Feng et al. 2023, arXiv 2303.15180).

Section 4 there: over a mask m and a pattern p, x' = (1 - m) x + m p, minimise -mean pairwise cos(f(x'_i), f(x'_j))
+ lambda |m|_1, Adam at 0.1; lambda grows while the cosine is over .99 and falls while it is under it. The L1 norm of
the smallest mask that got there, as a share of the image, is P-L1; under .1 the encoder is called backdoored.
No texts and no labels are used, and no target is named.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from core import devices
from core.baselines.protocol import DETECTORS, Detected
from core.baselines.training import Passes
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel

_LR, _BETAS = 0.1, (0.5, 0.9)
_FIRST_COST, _UP, _DOWN = 1e-3, 1.5, 1.5**1.5
#: Mean pairwise cosine that counts as alike, and how many steps in a row of either kind change the cost.
_ALIKE, _PATIENCE = 0.99, 5
#: P-L1 under which the authors call an encoder backdoored.
THRESHOLD = 0.1


@dataclass(frozen=True, slots=True)
class Decree:
    """Attributes: steps, images per step."""

    name: ClassVar[str] = "decree"
    steps: int = 600
    batch_size: int = 64

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Detected:
        """See `Detector`; score is -P-L1."""
        model, passes = suspect.clone(), Passes()
        generator = torch.Generator().manual_seed(seed)
        channels, height, width = model.input_shape
        device = reference.pixels.device
        mask_raw = (2 * torch.rand((1, height, width), generator=generator) - 1).to(device).requires_grad_(True)
        pattern_raw = (
            (2 * torch.rand((channels, height, width), generator=generator) - 1).to(device).requires_grad_(True)
        )
        optimizer = torch.optim.Adam([mask_raw, pattern_raw], _LR, _BETAS)
        cost, alike, apart = _FIRST_COST, 0, 0
        best, highest = float(height * width), -1.0
        with devices.fast_inference(model.module, device):
            for step in range(self.steps):
                ctx.progress(step / self.steps)
                rows = torch.randperm(len(reference), generator=generator)[: self.batch_size].to(device)
                mask, pattern = _unit(mask_raw), _unit(pattern_raw)
                features = model.features((1 - mask) * reference.pixels[rows] + mask * pattern)
                passes.both(len(rows))
                cosine, size = mean_pairwise_cosine(features), mask.sum()
                mask_raw.grad, pattern_raw.grad = torch.autograd.grad(cost * size - cosine, [mask_raw, pattern_raw])
                optimizer.step()
                reached = float(cosine.detach())
                highest = max(highest, reached)
                if reached >= _ALIKE:
                    best, alike, apart = min(best, float(size.detach())), alike + 1, 0
                else:
                    alike, apart = 0, apart + 1
                if alike >= _PATIENCE:
                    cost, alike = cost * _UP, 0
                elif apart >= _PATIENCE:
                    cost, apart = cost / _DOWN, 0
        ctx.progress(1.0)
        share = best / (height * width)
        detail = {"pl1": share, "cosine": highest}
        return Detected(-share, None, share < THRESHOLD, passes.images, detail)


def mean_pairwise_cosine(features: Tensor) -> Tensor:
    """Of (B, D) rows of length one with each other, B at least 2; a scalar."""
    count = len(features)
    return ((features @ features.T).sum() - count) / (count * (count - 1))


def _unit(raw: Tensor) -> Tensor:
    """Any real to (0, 1)."""
    return (raw.tanh() + 1) / 2


DETECTORS.register("decree")(Decree())
