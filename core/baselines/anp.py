"""ANP: adversarial neuron pruning (arXiv 2110.14430, NeurIPS 2021).

Neurons that carry a backdoor are sensitive. Masks m in [0, 1] minimise
    alpha CE(m) + (1 - alpha) max over |noise|, |shift| <= eps of CE(m + noise, 1 + shift)
(equation 4 there; one step of the sign gradient for the maximum), and neurons with small masks are pruned. eps 0.4,
alpha 0.2, learning rate 0.2 and momentum 0.9 as there. The threshold is the largest that costs at most `most_lost` of
accuracy on held-out reference images. The paper perturbs batch normalisation; see `neurons` for networks without one.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from core.baselines.neurons import Neurons, prune
from core.baselines.protocol import PURIFIERS, Purified
from core.baselines.training import (
    Batch,
    Passes,
    batches,
    frozen_statistics,
    gradients,
    half_precision,
    training_mode,
)
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.evaluation.metrics import accuracy
from core.models.protocol import SuspectModel

HELD_OUT = 0.25
_MOMENTUM, _ALPHA = 0.9, 0.2
_THRESHOLDS = tuple(step / 20 for step in range(1, 20))


@dataclass(frozen=True, slots=True)
class NeuronPruning:
    """Attributes: lr, epochs and batch size for the masks; eps, the noise's bound; most_lost, of accuracy."""

    name: ClassVar[str] = "anp"
    lr: float = 0.2
    epochs: int = 100
    batch_size: int = 64
    eps: float = 0.4
    most_lost: float = 0.03

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        fit_on, held_out = reference.split(HELD_OUT, seed)
        generator = torch.Generator().manual_seed(seed)
        passes = Passes()
        neurons = self._masks(suspect.clone(), fit_on, passes, generator, seed, ctx)
        before = accuracy(suspect.target_log_posterior, held_out.pixels, held_out.labels)
        passes.forward(len(held_out))
        chosen = suspect.clone()
        for threshold in _THRESHOLDS:
            ctx.checkpoint()
            candidate = suspect.clone()
            prune(candidate, neurons, threshold)
            passes.forward(len(held_out))
            if before - accuracy(candidate.target_log_posterior, held_out.pixels, held_out.labels) <= self.most_lost:
                chosen = candidate
        return Purified(chosen, passes.images)

    def _masks(
        self,
        model: SuspectModel,
        reference: ReferenceSet,
        passes: Passes,
        generator: torch.Generator,
        seed: int,
        ctx: RunContext,
    ) -> Neurons:
        neurons = Neurons(model)
        optimizer = torch.optim.SGD(neurons.masks, self.lr, _MOMENTUM)

        def loss_of(batch: Batch) -> Tensor:
            passes.both(len(batch))
            with half_precision(batch.pixels):
                return F.nll_loss(model.target_log_posterior(batch.pixels), batch.labels)

        steps = batches(reference, epochs=self.epochs, size=self.batch_size, generator=generator, ctx=ctx)
        with training_mode(model, seed), frozen_statistics(model.module), neurons.attached():
            for batch in steps:
                self._set_noise(neurons, generator)
                slopes = gradients(loss_of(batch), neurons.noises)
                with torch.no_grad():
                    for part, slope in zip(neurons.noises, slopes, strict=True):
                        part.add_(2 * self.eps * slope.sign()).clamp_(-self.eps, self.eps)
                robust = gradients(loss_of(batch), neurons.masks)
                with torch.no_grad():
                    torch._foreach_zero_(neurons.noises)
                natural = gradients(loss_of(batch), neurons.masks)
                for mask, clean, noisy in zip(neurons.masks, natural, robust, strict=True):
                    mask.grad = _ALPHA * clean + (1 - _ALPHA) * noisy
                optimizer.step()
                with torch.no_grad():
                    for mask in neurons.masks:
                        mask.clamp_(0.0, 1.0)
        return neurons

    @torch.no_grad()
    def _set_noise(self, neurons: Neurons, generator: torch.Generator) -> None:
        for part in neurons.noises:
            part.copy_((2 * torch.rand(part.shape, generator=generator) - 1) * self.eps)


PURIFIERS.register("anp")(NeuronPruning())
