"""What a model is good for, measured on reference images: the figures that purification must not lower."""

from typing import Literal

import torch
from torch import Tensor

from core.data.reference import ReferenceSet
from core.evaluation.metrics import accuracy
from core.models.protocol import SuspectModel
from core.report.schema import Utility

_BATCH = 256


def utility(model: SuspectModel, images: ReferenceSet) -> Utility:
    """Accuracy (zero-shot where targets are texts), or the agreement with a suspect's own labels where nobody gave any.

    Raises:
        ValueError: there are no images.
    """
    accurate: Literal["accuracy", "zero_shot_accuracy"] = "accuracy" if model.scale is None else "zero_shot_accuracy"
    return Utility(
        measure=accurate if images.labelled else "agreement_with_suspect",
        images=len(images),
        before=accuracy(model.target_log_posterior, images.pixels, images.labels),
    )


def retrieval(model: SuspectModel, images: ReferenceSet) -> Utility | None:
    """Share of the images whose nearest text of all has the image's own label; None for images without texts.

    That is image-to-text recall at rank one, counted by concept: two captions of one concept stand for each other.
    """
    if images.texts is None:
        return None
    nearest = torch.cat([(part @ images.texts.T).argmax(1) for part in _features(model, images.pixels)])
    hits = images.labels[nearest] == images.labels
    return Utility(measure="retrieval_recall", images=len(images), before=float(hits.float().mean()))


@torch.no_grad()
def _features(model: SuspectModel, pixels: Tensor) -> list[Tensor]:
    return [model.features(part) for part in torch.split(pixels, _BATCH)]
