"""SAU: shared adversarial unlearning (arXiv 2307.10562, NeurIPS 2023).

Inner problem, per image, |e|_inf <= bound: maximise w_adv CE(f(x + e), y) - w_share JS(f_b(x + e), f(x + e)), which
finds adversarial examples that suspect f_b and current model f share. Outer problem: minimise
    CE(f(x), y) - mean over {f_b(x + e) = z != y} of log(1 - p(z | x + e))
(equations 7 to 10 there; weights 1, 0.01 for w_adv, 1 for w_share, five signed steps).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

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

_ADVERSARIAL, _SHARED = 0.01, 1.0
_STEPS = 5


def jensen_shannon(one: Tensor, other: Tensor) -> Tensor:
    """Of (B, K) log-probabilities, (B,), in [0, log 2]."""
    between = torch.logaddexp(one, other) - math.log(2)
    parts = [(log.exp() * (log - between)).sum(1) for log in (one, other)]
    return (parts[0] + parts[1]) / 2


def shared_loss(log_posterior: Tensor, suspect_answers: Tensor, labels: Tensor) -> Tensor:
    """-log(1 - p of the suspect's wrong answer), mean over the images it gets wrong; 0 if there are none."""
    wrong = (suspect_answers != labels).nonzero().flatten()
    if not len(wrong):
        return log_posterior.sum() * 0.0
    shared = log_posterior[wrong, suspect_answers[wrong]].exp()
    return -torch.log1p(-shared.clamp(max=1 - 1e-4)).mean()


@dataclass(frozen=True, slots=True)
class SharedUnlearning:
    """Attributes: lr of Adam, epochs, batch size; bound of the perturbation in pixels of [0, 1], also its step."""

    name: ClassVar[str] = "sau"
    lr: float = 5e-4
    epochs: int = 8
    batch_size: int = 64
    bound: float = 0.2

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        model, passes = suspect.clone(), Passes()
        generator = torch.Generator().manual_seed(seed)
        parameters = model.trainable_parameters()

        def gradient(batch: Batch) -> list[Tensor]:
            changed = self._adversarial(suspect, model, batch, passes, generator)
            passes.both(2 * len(batch))
            passes.forward(len(batch))
            with half_precision(batch.pixels):
                with torch.no_grad():
                    answers = suspect.target_log_posterior(changed).argmax(1)
                log_posterior = model.target_log_posterior(torch.cat([batch.pixels, changed]))
            clean, triggered = log_posterior[: len(batch)], log_posterior[len(batch) :]
            loss = F.nll_loss(clean, batch.labels) + shared_loss(triggered, answers, batch.labels)
            return gradients(loss, parameters)

        with training_mode(model, seed):
            optimizer = torch.optim.Adam(parameters, self.lr)
            steps = batches(reference, epochs=self.epochs, size=self.batch_size, generator=generator, ctx=ctx)
            descend(parameters, optimizer, steps, gradient)
        return Purified(model, passes.images)

    def _adversarial(
        self, suspect: SuspectModel, model: SuspectModel, batch: Batch, passes: Passes, generator: torch.Generator
    ) -> Tensor:
        """(B, C, H, W) in [0, 1], shared adversarial examples of the batch."""
        start = (2 * torch.rand(batch.pixels.shape, generator=generator) - 1).to(batch.pixels.device)
        changed = (batch.pixels + self.bound * start).clamp(0.0, 1.0)
        for _ in range(_STEPS):
            passes.both(2 * len(batch))
            changed.requires_grad_(True)
            with half_precision(changed), frozen_statistics(model.module):
                theirs, ours = suspect.target_log_posterior(changed), model.target_log_posterior(changed)
            apart = _SHARED * jensen_shannon(theirs, ours).sum()
            (slope,) = gradients(_ADVERSARIAL * F.nll_loss(ours, batch.labels, reduction="sum") - apart, [changed])
            moved = changed.detach() + self.bound * slope.sign()
            moved = torch.minimum(torch.maximum(moved, batch.pixels - self.bound), batch.pixels + self.bound)
            changed = moved.clamp(0.0, 1.0)
        return changed


PURIFIERS.register("sau")(SharedUnlearning())
