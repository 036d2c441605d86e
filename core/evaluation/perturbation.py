"""How near a backdoor still is: an attacker may add a small perturbation, the same for all images, to the trigger.

A backdoor that sleeps a step away from its trigger is not gone. A universal perturbation also moves a clean model, so
the result means something only beside that of a clean model of the same kind.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from core import devices
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.evaluation.metrics import LabelMap, PixelMap, predict
from core.models.protocol import SuspectModel

#: Largest change of a pixel.
RADIUS = 0.04
#: Steps of one restart, and how many restarts. The first one starts from no perturbation.
STEPS, RESTARTS = 40, 3
#: Images the attacker optimises on, at most: more cost time and find no better perturbation.
_IMAGES = 64
#: First step as a share of the radius; steps fall linearly to zero.
_STEP = 0.25
_MOMENTUM = 0.75


def perturbed_asr(
    model: SuspectModel,
    attacker_images: ReferenceSet,
    test: ReferenceSet,
    trigger: PixelMap,
    target_of: LabelMap,
    *,
    radius: float = RADIUS,
    steps: int = STEPS,
    restarts: int = RESTARTS,
    seed: int,
    ctx: RunContext,
) -> float:
    """ASR on `test` of the trigger with the best perturbation found, or with none if that is better.

    Args:
        model: stays as it is, and in evaluation mode.
        attacker_images: what the perturbation is optimised on, disjoint from `test`.
        test: what the attack is measured on.
        trigger: the true trigger in benchmarks, an inverted one in a scan.
        target_of: the class each true class is sent to.
        radius: largest change of a pixel.
        steps: of each restart.
        restarts: starting points; the best result counts, so more never give less.
        seed: draws the attacker's images and the starting points.
        ctx: progress, and a point to stop at every step.

    Raises:
        ValueError: the attacker has no image outside the target class, or there is none to measure on.
    """
    wanted = target_of(test.labels)
    rows = (wanted != test.labels).nonzero().flatten()
    if not len(rows):
        raise ValueError("attack success rate without an image outside the target class")
    with torch.no_grad():
        stamped = trigger(test.pixels[rows]).contiguous(memory_format=torch.channels_last)

    def success(perturbation: Tensor) -> float:
        answers = predict(model.target_log_posterior, (stamped + perturbation).clamp(0.0, 1.0))
        return float((answers == wanted[rows]).float().mean())

    best = success(torch.zeros_like(stamped[:1]))
    for restart in range(restarts):
        part = ctx.part(restart / restarts, (restart + 1) / restarts)
        found = universal_perturbation(
            model, attacker_images, trigger, target_of, radius=radius, steps=steps, start=restart, seed=seed, ctx=part
        )
        best = max(best, success(found))
    return best


def universal_perturbation(
    model: SuspectModel,
    images: ReferenceSet,
    trigger: PixelMap,
    target_of: LabelMap,
    *,
    radius: float,
    steps: int,
    start: int,
    seed: int,
    ctx: RunContext,
) -> Tensor:
    """(1, C, H, W) within `radius` that, on top of the trigger, sends most of the images where they are wanted.

    Signed momentum descent of the cross-entropy (Dong et al., "Boosting Adversarial Attacks with Momentum", 2018),
    averaged over images.

    Args:
        start: 0 begins with no perturbation, every other number with a random one of its own.

    Raises:
        ValueError: every image is of the target class.
    """
    generator = torch.Generator().manual_seed(seed)
    wanted = target_of(images.labels)
    eligible = (wanted != images.labels).nonzero().flatten().cpu()
    if not len(eligible):
        raise ValueError("the attacker has no image outside the target class")
    rows = eligible[torch.randperm(len(eligible), generator=generator)[:_IMAGES]].to(wanted.device)
    with torch.no_grad():
        stamped = trigger(images.pixels[rows]).contiguous(memory_format=torch.channels_last)
    perturbation = torch.zeros_like(stamped[:1])
    if start:
        noise = torch.rand(perturbation.shape, generator=generator.manual_seed(seed + start))
        perturbation = ((2 * noise - 1) * radius).to(stamped)
    velocity = torch.zeros_like(perturbation)
    with devices.fast_inference(model.module, stamped.device):
        for step in range(steps):
            ctx.progress(step / steps)
            perturbation.requires_grad_(True)
            loss = F.nll_loss(model.target_log_posterior((stamped + perturbation).clamp(0.0, 1.0)), wanted[rows])
            (slope,) = torch.autograd.grad(loss, perturbation)
            velocity = _MOMENTUM * velocity + slope / slope.abs().mean().clamp(min=1e-12)
            length = _STEP * radius * (1 - step / steps)
            perturbation = (perturbation.detach() - length * velocity.sign()).clamp(-radius, radius)
    ctx.progress(1.0)
    return perturbation
