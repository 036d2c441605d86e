"""NAD: neural attention distillation (arXiv 2101.05930, ICLR 2021).

A teacher, the suspect after fine-tuning, shows where to look: the student, the suspect itself, minimises
CE + sum_l beta_l |A(F_l)/|A(F_l)| - A(T_l)/|A(T_l)||^2 / places, A = mean over channels of |F|^2 (equations 2 to 4
there), over the ends of three stages.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from core.baselines.fine_tuning import MOMENTUM, FineTuning
from core.baselines.protocol import PURIFIERS, Purified
from core.baselines.training import Batch, Passes, batches, descend, gradients, half_precision, training_mode
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel
from core.models.stages import STAGES, stage_ends, watching

_WEIGHT_DECAY = 1e-4


def attention(features: Tensor) -> Tensor:
    """(B, C, H, W) or (B, N, D) -> (B, places), of norm one: where the layer is active."""
    channels = 1 if features.dim() == 4 else 2
    return F.normalize(features.float().square().mean(channels).flatten(1), dim=1)


@dataclass(frozen=True, slots=True)
class AttentionDistillation:
    """Attributes: lr and batch size of teacher and student, epochs of each; betas, early stage to late."""

    name: ClassVar[str] = "nad"
    lr: float = 0.02
    teacher_epochs: int = 10
    epochs: int = 20
    batch_size: int = 64
    betas: tuple[float, ...] = (500.0, 1000.0, 1000.0)

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        share = self.teacher_epochs / (self.teacher_epochs + self.epochs)
        teach = FineTuning(self.lr, self.teacher_epochs, self.batch_size)
        taught = teach(suspect, reference, seed=seed, ctx=ctx.part(0.0, share))
        teacher, model, passes = taught.model, suspect.clone(), Passes()
        generator = torch.Generator().manual_seed(seed + 1)
        parameters, paths = model.trainable_parameters(), stage_ends(suspect)
        betas = self.betas[STAGES - len(paths) :]

        def gradient(batch: Batch) -> list[Tensor]:
            passes.both(len(batch))
            passes.forward(len(batch))
            with half_precision(batch.pixels), watching(teacher.module, paths) as shown, torch.no_grad():
                teacher.target_log_posterior(batch.pixels)
            with half_precision(batch.pixels), watching(model.module, paths) as own:
                loss = F.nll_loss(model.target_log_posterior(batch.pixels), batch.labels)
            for path, beta in zip(paths, betas, strict=True):
                loss = loss + beta * (attention(own[path]) - attention(shown[path])).square().mean()
            return gradients(loss, parameters)

        with training_mode(model, seed):
            optimizer = torch.optim.SGD(parameters, self.lr, MOMENTUM, weight_decay=_WEIGHT_DECAY)
            rest = ctx.part(share, 1.0)
            steps = batches(reference, epochs=self.epochs, size=self.batch_size, generator=generator, ctx=rest)
            descend(parameters, optimizer, steps, gradient)
        return Purified(model, taught.images + passes.images)


PURIFIERS.register("nad")(AttentionDistillation())
