"""FT: the suspect's image tower trained on clean pairs with the loss it was made with, the least a defender does.

The baseline of CleanCLIP's table 1 (arXiv 2303.03323); the learning rate is tuned, see docs/clip.md.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from core.baselines.clip.contrast import Schedule, scale_of, texts_of, tune
from core.baselines.protocol import PURIFIERS, Purified
from core.baselines.training import Batch, Passes
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.clip.loss import info_nce
from core.models.protocol import SuspectModel

SCHEDULE = Schedule(lr=1e-3, epochs=25)


@dataclass(frozen=True, slots=True)
class PairFineTuning:
    """Attributes: schedule of the descent."""

    name: ClassVar[str] = "clip-ft"
    schedule: Schedule = SCHEDULE

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        model, scale, passes = suspect.clone(), scale_of(suspect), Passes()

        def loss(batch: Batch) -> Tensor:
            passes.both(len(batch))
            return info_nce(model.features(batch.pixels), texts_of(batch), scale)

        tune(model, reference, self.schedule, loss, seed=seed, ctx=ctx)
        return Purified(model, passes.images)


PURIFIERS.register("clip-ft")(PairFineTuning())
