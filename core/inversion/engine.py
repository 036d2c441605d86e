"""Blind inversion: the one EM engine behind SuspectModel.

Target hypotheses are explicit mixture components of several operator families, pruned in succession. Beside them run
components whose target depends on the source class, with a learned transition.
"""

import torch

from core import devices
from core.config import InversionConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import InvalidInputError
from core.inversion.ascent import ascend
from core.inversion.particles import Images, frozen
from core.inversion.result import InversionResult, InvertedTrigger
from core.inversion.run import Run, images_of
from core.inversion.screening import (
    DENSE,
    blend,
    blend_budget,
    budget,
    search,
    search_source_dependent,
    source_budget,
)
from core.models.protocol import SuspectModel

#: Families in which every target is a hypothesis, and those with a source-dependent target.
TARGETED, LEARNED = ("tiled", "additive", "smooth", "warp"), ("tiled", "additive")
#: Share of the reference set that triggers are measured on and not fitted on.
HELD_OUT = 0.25
#: Fewer reference images than this cannot be fitted and measured on.
FEWEST_IMAGES = 8
#: Components within this factor of the least energy are kept, and at most so many.
KEEP_WITHIN, KEEP_MOST = 2.0, 6
_ASCENT_STEPS, _ASCENT_IMAGES = 4, 32


def invert(
    model: SuspectModel, reference: ReferenceSet, config: InversionConfig, *, seed: int, ctx: RunContext
) -> InversionResult:
    """Find the least-energy triggers that the suspect obeys.

    Args:
        model: the suspect, in evaluation mode.
        reference: clean images (N >= FEWEST_IMAGES) in pixel space, on the model's device. Where a held-out part would
            be smaller than that, triggers are measured on the images they were fitted on.
        config: budget and prior.
        seed: everything random depends on it and on nothing else.
        ctx: progress goes there at every step, and it may stop the run.

    Returns:
        Surviving components, most suspicious first, and the evidence for all hypotheses.

    Raises:
        InvalidInputError: fewer reference images than that, or outputs that are not finite.
        CanceledError: the context asked to stop.
    """
    if len(reference) < FEWEST_IMAGES:
        raise InvalidInputError(
            "reference_too_small",
            f"{len(reference)} reference images are too few to look for a trigger with.",
            "Give some tens of images per class.",
        )
    with frozen(model), devices.fast_inference(model.module, reference.pixels.device):
        fit_part, held_out_part = reference.split(HELD_OUT, seed)
        if len(held_out_part) < FEWEST_IMAGES:
            fit_part = held_out_part = reference
        planned = sum(budget(model.num_targets, config, family) for family in TARGETED)
        planned += blend_budget(config) + sum(source_budget(config, family) for family in LEARNED)
        generator = torch.Generator().manual_seed(seed)
        run = Run(model, config, generator, ctx, images_of(model, fit_part), images_of(model, held_out_part), planned)
        for family in TARGETED:
            search(run, family)
        if _is_dense(run):
            blend(run)
        for family in LEARNED:
            search_source_dependent(run, family)
        return _result(run)


def _is_dense(run: Run) -> bool:
    """Whether a dense component would be kept."""
    least = min(item.evidence.energy for item in run.found)
    return any(item.evidence.family in DENSE and item.evidence.energy <= KEEP_WITHIN * least for item in run.found)


def _result(run: Run) -> InversionResult:
    found = sorted(run.found, key=lambda item: item.evidence.energy)
    least = found[0].evidence.energy
    kept = [item for item in found if item.evidence.energy <= KEEP_WITHIN * least][:KEEP_MOST]
    some = Images(run.fit_on.pixels[:_ASCENT_IMAGES], run.fit_on.sources[:_ASCENT_IMAGES])
    history = ascend(run.model, kept[0].bank.select([0]), some, _ASCENT_STEPS)
    run.step(len(some) * len(history))
    ratios = torch.tensor([item.evidence.energy / max(least, 1e-6) for item in kept])
    weights = torch.softmax(-2.0 * ratios, 0).tolist()
    triggers = tuple(
        InvertedTrigger(
            item.bank.operator.freeze(),
            item.bank.targets[0],
            item.bank.transition[0].detach().cpu(),
            item.evidence.energy,
            item.evidence.flip_rate,
            weight,
        )
        for item, weight in zip(kept, weights, strict=True)
    )
    run.ctx.progress(1.0)
    evidence = tuple(item.evidence for item in found)
    return InversionResult(triggers, run.energies, tuple(history), run.images, _coverage(run), evidence, run.looked)


def _coverage(run: Run) -> tuple[str, ...]:
    skipped = (
        f"screened but, for much cheaper triggers found elsewhere, not refined: {', '.join(sorted(set(run.skipped)))}"
    )
    return (
        f"operators {', '.join(TARGETED)}: all {run.classes} targets screened",
        f"operators {', '.join(LEARNED)}: target depending on the source class",
        *([skipped] if run.skipped else []),
        f"{run.config.restarts} restarts, {len(run.fit_on)} images fitted on, {len(run.held_out)} held out",
    )
