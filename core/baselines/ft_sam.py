"""FT-SAM: fine-tuning that looks for weights whose neighbourhood is good, too (arXiv 2304.11823, ICCV 2023).

min over theta, max over |T^-1 e|_2 <= rho of L(theta + e), T = diag(|theta|): weights of large norm, which carry the
backdoor, are perturbed and therefore moved the most. To first order e = rho T^2 g / |T g|_2 with g the gradient of L
(equations 4 and 5 there). L is the cross-entropy with label smoothing 0.1, rho is 2, as there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.baselines.fine_tuning import MOMENTUM, WEIGHT_DECAY
from core.baselines.protocol import PURIFIERS, Purified
from core.baselines.training import (
    Batch,
    Passes,
    batches,
    descend,
    frozen_statistics,
    gradients,
    half_precision,
    training_mode,
)
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel

_SMOOTHING = 0.1


@torch.no_grad()
def adaptive_perturbation(weights: Sequence[Tensor], slopes: Sequence[Tensor], rho: float) -> list[Tensor]:
    """e = rho T^2 g / |T g|_2 with T = diag(|weights|): |T^-1 e|_2 = rho wherever a weight and its slope are not 0."""
    scaled = [weight.abs() * slope for weight, slope in zip(weights, slopes, strict=True)]
    factor = rho / (nn.utils.get_total_norm(scaled) + 1e-12)
    return [factor * weight.abs() * part for weight, part in zip(weights, scaled, strict=True)]


@dataclass(frozen=True, slots=True)
class SharpnessAwareFineTuning:
    """Attributes: lr, epochs and batch size of the descent; rho, the radius in units of the weights."""

    name: ClassVar[str] = "ft-sam"
    lr: float = 0.01
    epochs: int = 20
    batch_size: int = 64
    rho: float = 2.0

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        model, passes = suspect.clone(), Passes()
        generator = torch.Generator().manual_seed(seed)
        parameters = model.trainable_parameters()

        def slopes(batch: Batch) -> list[Tensor]:
            passes.both(len(batch))
            with half_precision(batch.pixels):
                log_posterior = model.target_log_posterior(batch.pixels)
            # Log-probabilities serve as logits: they differ by a constant per image.
            return gradients(F.cross_entropy(log_posterior, batch.labels, label_smoothing=_SMOOTHING), parameters)

        def gradient(batch: Batch) -> list[Tensor]:
            moves = adaptive_perturbation(parameters, slopes(batch), self.rho)
            before = [parameter.detach().clone() for parameter in parameters]
            with torch.no_grad():
                for parameter, move in zip(parameters, moves, strict=True):
                    parameter.add_(move)
            with frozen_statistics(model.module):
                sharp = slopes(batch)
            with torch.no_grad():
                for parameter, value in zip(parameters, before, strict=True):
                    parameter.copy_(value)
            return sharp

        with training_mode(model, seed):
            optimizer = torch.optim.SGD(parameters, self.lr, MOMENTUM, weight_decay=WEIGHT_DECAY)
            steps = batches(reference, epochs=self.epochs, size=self.batch_size, generator=generator, ctx=ctx)
            descend(parameters, optimizer, steps, gradient)
        return Purified(model, passes.images)


PURIFIERS.register("ft-sam")(SharpnessAwareFineTuning())
