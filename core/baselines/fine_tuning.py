"""FT: fine-tuning on clean images, the least a defender does.

As BackdoorBench does it (stochastic gradient descent, momentum 0.9, weight decay 5e-4, cosine, training-mode batch
normalisation); learning rate and epochs are tuned for a few hundred images, see docs/research/baselines.md.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from core.baselines.protocol import PURIFIERS, Purified
from core.baselines.training import Batch, Passes, batches, descend, gradients, half_precision, training_mode
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel

MOMENTUM, WEIGHT_DECAY = 0.9, 5e-4


@dataclass(frozen=True, slots=True)
class FineTuning:
    """Attributes: lr, epochs and batch size of the descent."""

    name: ClassVar[str] = "ft"
    lr: float = 0.03
    epochs: int = 30
    batch_size: int = 64

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        model, passes = suspect.clone(), Passes()
        generator = torch.Generator().manual_seed(seed)
        parameters = model.trainable_parameters()

        def gradient(batch: Batch) -> list[Tensor]:
            passes.both(len(batch))
            with half_precision(batch.pixels):
                loss = F.nll_loss(model.target_log_posterior(batch.pixels), batch.labels)
            return gradients(loss, parameters)

        with training_mode(model, seed):
            optimizer = torch.optim.SGD(parameters, self.lr, MOMENTUM, weight_decay=WEIGHT_DECAY)
            steps = batches(reference, epochs=self.epochs, size=self.batch_size, generator=generator, ctx=ctx)
            descend(parameters, optimizer, steps, gradient)
        return Purified(model, passes.images)


PURIFIERS.register("ft")(FineTuning())
