"""Descent on a loss over the pairs of a reference set."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.baselines.training import Batch, batches, descend, gradients, half_precision, training_mode
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import UnsupportedError
from core.models.protocol import SuspectModel


def texts_of(pairs: ReferenceSet | Batch) -> Tensor:
    """(N, D) directions of the texts, rows of length one.

    Raises:
        UnsupportedError: `unsupported_reference`: the images have none.
    """
    if pairs.texts is None:
        raise UnsupportedError(
            "unsupported_reference", "This method trains on pairs, and the images have no texts.", "Add captions."
        )
    return pairs.texts


def scale_of(model: SuspectModel) -> float:
    """What the model multiplies cosines of images and texts by.

    Raises:
        UnsupportedError: `unsupported_model`: it knows no texts.
    """
    if model.scale is None:
        raise UnsupportedError("unsupported_model", "This method is for models of images and texts.")
    return model.scale


@dataclass(frozen=True, slots=True)
class Schedule:
    """Of AdamW: peak of the cosine, passes over the pairs, pairs a step, decay of all weights."""

    lr: float
    epochs: int
    batch_size: int = 64
    weight_decay: float = 0.1


def tune(
    model: SuspectModel,
    reference: ReferenceSet,
    schedule: Schedule,
    loss: Callable[[Batch], Tensor],
    *,
    seed: int,
    ctx: RunContext,
) -> None:
    """Move the weights of `model` along `loss`, normalisation in training mode.

    Args:
        model: changed in place.
        reference: pairs.
        schedule: of the descent.
        loss: of a batch of shifted and mirrored images; counts its own passes.
        seed: of order and views.
        ctx: progress, and a point to stop at every step.

    Raises:
        UnsupportedError: the images have no texts.
    """
    texts_of(reference)
    generator = torch.Generator().manual_seed(seed)
    parameters = model.trainable_parameters()
    optimizer = torch.optim.AdamW(parameters, schedule.lr, weight_decay=schedule.weight_decay)

    def gradient(batch: Batch) -> list[Tensor]:
        with half_precision(batch.pixels):
            value = loss(batch)
        return gradients(value, parameters)

    with training_mode(model, seed):
        steps = batches(reference, epochs=schedule.epochs, size=schedule.batch_size, generator=generator, ctx=ctx)
        descend(parameters, optimizer, steps, gradient)
