"""CleanCLIP: clean pairs, and images beside augmented images of themselves (Bansal et al. 2023, arXiv 2303.03323).

Section 3.2 there: L_CLIP + lambda_1 L_SS with lambda_1 = 1, L_SS being InfoNCE between the embeddings of an image and
of an augmented one, and of a text and an augmented one. Texts' part is constant where the text tower is frozen, as
it is here for every method; what is left acts on the images, where the triggers are.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torchvision.transforms import v2

from core.baselines.clip.contrast import Schedule, scale_of, texts_of, tune
from core.baselines.protocol import PURIFIERS, Purified
from core.baselines.training import Batch, Passes
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.clip.loss import info_nce
from core.models.protocol import SuspectModel

SCHEDULE = Schedule(lr=1e-3, epochs=25)


@dataclass(frozen=True, slots=True)
class CleanClip:
    """Attributes: schedule of the descent, weight of the images' own contrast."""

    name: ClassVar[str] = "cleanclip"
    schedule: Schedule = SCHEDULE
    weight: float = 1.0

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        model, scale, passes = suspect.clone(), scale_of(suspect), Passes()
        # The authors' AutoAugment also inverts and solarises: where colours are concepts, that costs accuracy and no
        # more. Draws follow the seed of `tune`.
        policy = v2.Compose(
            [
                v2.RandomResizedCrop(suspect.input_shape[1:], scale=(0.6, 1.0), antialias=True),
                v2.RandomRotation(15, v2.InterpolationMode.BILINEAR),
                v2.ColorJitter(brightness=0.4, contrast=0.4),
            ]
        )

        def loss(batch: Batch) -> Tensor:
            passes.both(2 * len(batch))
            changed = torch.stack([policy(image) for image in batch.pixels])
            images, others = model.features(torch.cat([batch.pixels, changed])).chunk(2)
            paired = info_nce(images, texts_of(batch), scale)
            return paired + self.weight * info_nce(images, others, scale)

        tune(model, reference, self.schedule, loss, seed=seed, ctx=ctx)
        return Purified(model, passes.images)


PURIFIERS.register("cleanclip")(CleanClip())
