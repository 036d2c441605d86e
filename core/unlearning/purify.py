"""The outer problem: rounds of inversion and unlearning until nothing is left that a clean model has not."""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from core.config import InversionConfig, UnlearningConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import InvalidInputError
from core.inversion.engine import invert
from core.inversion.result import InversionResult
from core.models.protocol import SuspectModel
from core.report.schema import Utility
from core.unlearning.guard import Guarded, guard, interpolated
from core.unlearning.pool import TriggerPool
from core.unlearning.recipe import Recipe, recipe_for
from core.unlearning.step import UnlearningStep
from core.unlearning.waves import obeyed_waves

#: Whether what was inverted on a model is no more than a clean model shows.
IsSettled = Callable[[SuspectModel, InversionResult], bool]

#: Share of the reference set that only the utility guard sees.
HELD_OUT = 0.25
_FEWEST_IMAGES = 16
#: Dimensions of the weights of a convolution of images.
_CONVOLUTION = 4
#: Share of a round's progress that unlearning takes; looking again takes the rest.
_UNLEARNING_SHARE = 0.6


@dataclass(frozen=True, slots=True)
class Purified:
    """What unlearning came to.

    Attributes:
        model: the chosen weights. To be published only if `accepted`.
        accepted: no loss of utility is beyond the budget.
        utility: before and after, on held-out reference images.
        retrieval: the same for their texts; None without texts.
        settled: a look between the rounds found no more than on a clean model; False if the rounds were used up.
        rounds: how many were run.
        images_processed: images through a forward and backward pass, re-scans included.
        inverted_flip: flip rate of the worst convincing inverted trigger on held-out images, after.
        back: share of the way back to the suspect that the guard added.
        reason: why nothing may be published, in plain words; empty if accepted.
    """

    model: SuspectModel
    accepted: bool
    utility: Utility
    retrieval: Utility | None
    settled: bool
    rounds: int
    images_processed: int
    inverted_flip: float
    back: float
    reason: str


def purify(
    suspect: SuspectModel,
    inversion: InversionResult,
    reference: ReferenceSet,
    config: UnlearningConfig,
    inversion_config: InversionConfig,
    *,
    seed: int,
    ctx: RunContext,
    is_settled: IsSettled,
) -> Purified:
    """Unlearn what `inversion` found, look again with the same budget, and repeat while something is left.

    Args:
        suspect: left as it is.
        inversion: what was found on it, with the same `seed`.
        reference: clean images; the suspect's own answers serve where there are no labels.
        config: rounds, strength and utility budget.
        inversion_config: the budget of every look.
        seed: everything random follows from it.
        ctx: progress of the stage, and a point to stop at every step.
        is_settled: judges each look.

    Raises:
        InvalidInputError: too few reference images, or nothing was inverted.
        CanceledError: the context asked to stop.
    """
    if len(reference) < _FEWEST_IMAGES:
        raise InvalidInputError(
            "reference_too_small",
            f"Purification needs at least {_FEWEST_IMAGES} reference images.",
            "Give some tens of images per class.",
        )
    if not inversion.triggers:
        raise InvalidInputError("nothing_to_unlearn", "No trigger was inverted, so there is nothing to unlearn.")
    fit_on, held_out = reference.split(HELD_OUT, seed)
    generator = torch.Generator().manual_seed(seed)
    pool = TriggerPool()
    current, teacher = suspect.clone(), frozen_teacher(suspect)
    found, images, rounds, settled = inversion, 0, 0, False
    pool.add(found.triggers)
    if is_settled(suspect, inversion):
        # The owner asked for it all the same: cover also what the search for least changes cannot reach.
        pool.broaden(obeyed_waves(suspect, fit_on, generator))
    while True:
        whole = ctx.part(rounds / config.rounds, (rounds + 1) / config.rounds)
        current.module.to(memory_format=torch.channels_last)
        recipe = recipe_for(suspect, config, pool.dense_share)
        step = UnlearningStep(teacher, current, pool, recipe.config, generator)
        batches = _batches(fit_on, config.batch_size, recipe.steps, generator)
        _unlearn(step, current, batches, recipe, whole.part(0.0, _UNLEARNING_SHARE))
        current.module.to(memory_format=torch.contiguous_format)
        if recipe.back:
            current = interpolated(current, suspect, recipe.back)
        rounds += 1
        images += step.images
        # After the last round the verification looks; after a divergence there is nothing to look at.
        if rounds == config.rounds or not _finite(current):
            break
        look = whole.part(_UNLEARNING_SHARE, 1.0)
        found = invert(current, reference, inversion_config, seed=seed + rounds, ctx=look)
        images += found.images_processed
        settled = is_settled(current, found)
        if settled:
            break
        pool.add(found.triggers)
    chosen = guard(suspect, current, pool.convincing, held_out, config.utility_budget)
    ctx.progress(1.0)
    return Purified(
        model=chosen.model,
        accepted=chosen.accepted,
        utility=chosen.utility,
        retrieval=chosen.retrieval,
        settled=settled,
        rounds=rounds,
        images_processed=images,
        inverted_flip=chosen.flip_rate,
        back=chosen.back,
        reason="" if chosen.accepted else _reason(chosen, config.utility_budget),
    )


def frozen_teacher(suspect: SuspectModel) -> SuspectModel:
    """The suspect with its convolutions in the layout they are fastest in; all else is shared with it, not copied."""
    tensors = (*suspect.module.parameters(), *suspect.module.buffers())
    shared = {id(tensor): tensor for tensor in tensors if tensor.dim() != _CONVOLUTION}
    teacher = copy.deepcopy(suspect, shared)
    teacher.module.to(memory_format=torch.channels_last)
    return teacher


def _batches(images: ReferenceSet, size: int, count: int, generator: torch.Generator) -> Iterator[ReferenceSet]:
    """`count` batches of at most `size` images, every image as often as any other."""
    rows: list[Tensor] = []
    for _ in range(count):
        if not rows:
            order = torch.randperm(len(images), generator=generator).to(images.labels.device)
            rows = list(torch.tensor_split(order, math.ceil(len(images) / size)))
        yield images.subset(rows.pop())


def _unlearn(
    step: UnlearningStep, current: SuspectModel, batches: Iterator[ReferenceSet], recipe: Recipe, ctx: RunContext
) -> None:
    """The steps of one round, in place; the learning rate falls to zero so that a look sees settled weights."""
    optimizer = recipe.optimizer(current.trainable_parameters())
    for number, batch in enumerate(batches):
        ctx.progress(number / recipe.steps)
        optimizer.param_groups[0]["lr"] = recipe.lr * (1 + math.cos(math.pi * number / recipe.steps)) / 2
        step(batch)
        optimizer.step()
    optimizer.zero_grad()  # copies of the model would copy its gradients
    ctx.progress(1.0)


def _finite(model: SuspectModel) -> bool:
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.trainable_parameters())


def _reason(chosen: Guarded, budget: float) -> str:
    names = {"agreement_with_suspect": "agreement with the suspect", "retrieval_recall": "recall at rank one of texts"}
    lowered = [
        f"{names.get(measured.measure, 'accuracy')} from {measured.before:.3f} to {measured.after:.3f}"
        for measured in (chosen.utility, chosen.retrieval)
        if measured is not None and measured.after is not None and measured.before - measured.after > budget
    ]
    return (
        f"Unlearning lowers {' and '.join(lowered)} on {chosen.utility.images} held-out reference images, which is "
        f"more than the budget of {budget:.3f}. Nothing is published."
    )
