"""ANP: adversarial neuron pruning (arXiv 2110.14430, NeurIPS 2021).

Neurons that carry a backdoor are sensitive. Masks m in [0, 1] minimise
    alpha CE(m) + (1 - alpha) max over |noise|, |shift| <= eps of CE(m + noise, 1 + shift)
(equation 4 there; one step of the sign gradient for the maximum), and neurons with small masks are pruned. eps 0.4,
alpha 0.2, learning rate 0.2 and momentum 0.9 as there. As many are pruned as cost at most `most_lost`
of accuracy on held-out reference images. The paper perturbs batch normalisation; see `neurons` for networks without.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from core.baselines.neurons import Layer, Neurons, prune
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
#: More loss of accuracy than this ends the search for the number of neurons.
_HOPELESS = 0.2
#: How fast the number of pruned neurons grows between two looks at the accuracy.
_PACE = 1.05


def sensitive_first(neurons: Neurons, means: list[Tensor]) -> list[tuple[Layer, int]]:
    """All neurons by rising mask; of equal masks (many end at 0) the one with the smaller mean, which fell earlier."""
    every = [
        (float(mask), float(mean), number, neuron)
        for number, (layer, course) in enumerate(zip(neurons.layers, means, strict=True))
        for neuron, (mask, mean) in enumerate(zip(layer.mask.detach(), course, strict=True))
    ]
    return [(neurons.layers[number], neuron) for _, _, number, neuron in sorted(every)]


@dataclass(frozen=True, slots=True)
class NeuronPruning:
    """Attributes: lr, epochs and batch size for the masks; eps, the noise's bound; most_lost, of accuracy."""

    name: ClassVar[str] = "anp"
    lr: float = 0.2
    epochs: int = 6
    batch_size: int = 64
    eps: float = 0.4
    most_lost: float = 0.03

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        fit_on, held_out = reference.split(HELD_OUT, seed)
        generator = torch.Generator().manual_seed(seed)
        passes = Passes()
        neurons, means = self._masks(suspect.clone(), fit_on, passes, generator, seed, ctx)
        model = suspect.clone()

        def on_held_out() -> float:
            ctx.checkpoint()
            passes.forward(len(held_out))
            return accuracy(model.target_log_posterior, held_out.pixels, held_out.labels)

        before = on_held_out()
        chosen = model.clone()
        order, pruned = sensitive_first(neurons, means), 0
        while pruned < len(order):
            # One by one at first: a backdoor may hang on a single neuron.
            upto = max(pruned + 1, int(pruned * _PACE))
            for layer, neuron in order[pruned:upto]:
                prune(model, layer, neuron)
            pruned = upto
            lost = before - on_held_out()
            if lost <= self.most_lost:
                chosen = model.clone()
            elif lost > _HOPELESS:
                break
        return Purified(chosen, passes.images)

    def _masks(
        self,
        model: SuspectModel,
        reference: ReferenceSet,
        passes: Passes,
        generator: torch.Generator,
        seed: int,
        ctx: RunContext,
    ) -> tuple[Neurons, list[Tensor]]:
        """The masks, and each layer's mean masks over the steps."""
        neurons = Neurons(model)
        sums = [torch.zeros_like(mask) for mask in neurons.masks]
        count = 0
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
                count += 1
                with torch.no_grad():
                    for mask, total in zip(neurons.masks, sums, strict=True):
                        total.add_(mask.clamp_(0.0, 1.0))
        return neurons, [total / count for total in sums]

    @torch.no_grad()
    def _set_noise(self, neurons: Neurons, generator: torch.Generator) -> None:
        for part in neurons.noises:
            part.copy_((2 * torch.rand(part.shape, generator=generator) - 1) * self.eps)


PURIFIERS.register("anp")(NeuronPruning())
