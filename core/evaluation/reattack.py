"""How fast a backdoor comes back: an attacker retunes the weights on a few poisoned images.

Retuning teaches a clean model the trigger as well. So a curve means something only beside that of a clean model of
the same kind: unlearning is complete when the purified model's curve is no higher.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import devices
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.evaluation.metrics import LabelMap, PixelMap, predict
from core.models.protocol import SuspectModel

#: After how many steps the attack is measured. Twenty steps flatter: judge at a hundred.
STEPS: tuple[int, ...] = (5, 10, 20, 50, 100)
#: The attacker's learning rates. Which one is worst depends on the model, so none of them alone is an answer.
RATES: tuple[float, ...] = (0.003, 0.01, 0.03)

#: The same for models of texts: cosines are multiplied before the softmax, and .03 destroys clean ones.
TEXT_RATES: tuple[float, ...] = (0.001, 0.003, 0.01)

#: ASR after each number of steps, per learning rate.
Grid = dict[float, dict[int, float]]


@dataclass(frozen=True, slots=True)
class Attacker:
    """What the attacker has and does.

    Attributes:
        poisoned: images stamped and relabelled.
        clean: further images with their true labels, to keep the model useful.
        momentum: of the stochastic gradient descent; every step sees all images.
        clip: largest norm of a gradient. Without it large learning rates destroy the model, which reads as success.
        train_bn: batch normalisation retunes in training mode, on the statistics of the attacker's batch; otherwise
            its statistics stay those of the model. Measured in evaluation mode either way.
    """

    poisoned: int = 20
    clean: int = 60
    momentum: float = 0.9
    clip: float = 5.0
    train_bn: bool = True

    @property
    def images(self) -> int:
        return self.poisoned + self.clean


@dataclass(frozen=True, slots=True)
class _Measured:
    """Triggered test images (N, C, H, W) outside the target class, and (N,) where they are wanted."""

    pixels: Tensor
    wanted: Tensor


def reattack_curve(
    model: SuspectModel,
    attacker_images: ReferenceSet,
    test: ReferenceSet,
    trigger: PixelMap,
    target_of: LabelMap,
    *,
    lr: float,
    seed: int,
    ctx: RunContext,
    steps: tuple[int, ...] = STEPS,
    attacker: Attacker | None = None,
) -> dict[int, float]:
    """ASR on `test` after each number of retuning steps in `steps`; `model` itself stays as it is.

    Args:
        model: attacked in a copy.
        attacker_images: where the attacker's images are drawn from, disjoint from `test`.
        test: what the attack is measured on.
        trigger: the true trigger in benchmarks, an inverted one in a scan.
        target_of: the class each true class is sent to.
        lr: learning rate of the attacker.
        seed: draws the attacker's images.
        ctx: progress, and a point to stop at every step.
        steps: when to measure; they rise.
        attacker: how many images, and how it retunes; None for the usual 20 and 60.

    Raises:
        ValueError: there are fewer images than the attacker needs, none to measure on, or the steps do not rise.
    """
    grid = reattack_grid(
        model,
        attacker_images,
        test,
        trigger,
        target_of,
        seed=seed,
        ctx=ctx,
        rates=(lr,),
        steps=steps,
        attacker=attacker,
    )
    return grid[lr]


def reattack_grid(
    model: SuspectModel,
    attacker_images: ReferenceSet,
    test: ReferenceSet,
    trigger: PixelMap,
    target_of: LabelMap,
    *,
    seed: int,
    ctx: RunContext,
    rates: tuple[float, ...] = RATES,
    steps: tuple[int, ...] = STEPS,
    attacker: Attacker | None = None,
) -> Grid:
    """The curves of `reattack_curve` for several learning rates, with the same images; see there."""
    if list(steps) != sorted(set(steps)) or steps[0] < 1:
        raise ValueError(f"the steps {steps} do not rise from one")
    attacker = attacker or Attacker()
    pixels, labels = _training_set(attacker_images, trigger, target_of, attacker, seed)
    measured = _measured(test, trigger, target_of)
    return {
        lr: _retune(
            model, pixels, labels, measured, lr, steps, attacker, ctx.part(at / len(rates), (at + 1) / len(rates))
        )
        for at, lr in enumerate(rates)
    }


def worst(grid: Mapping[float, Mapping[int, float]]) -> float:
    """The highest ASR anywhere in a grid; 0 for an empty one."""
    return max((rate for curve in grid.values() for rate in curve.values()), default=0.0)


def _retune(
    model: SuspectModel,
    pixels: Tensor,
    labels: Tensor,
    measured: _Measured,
    lr: float,
    steps: tuple[int, ...],
    attacker: Attacker,
    ctx: RunContext,
) -> dict[int, float]:
    victim = model.clone()
    victim.module.to(memory_format=torch.channels_last)
    normalisations = [m for m in victim.module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    parameters = victim.trainable_parameters()
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=attacker.momentum)
    # The attacker's gradients need no more: the curves agree within their noise, at twice the speed.
    half = torch.autocast(pixels.device.type, torch.bfloat16, enabled=devices.has_bfloat16(pixels.device))
    curve: dict[int, float] = {}
    for step in range(1, steps[-1] + 1):
        ctx.progress((step - 1) / steps[-1])
        for normalisation in normalisations:
            normalisation.train(attacker.train_bn)
        with half:
            loss = F.nll_loss(victim.target_log_posterior(pixels), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, attacker.clip)
        optimizer.step()
        if step in steps:
            for normalisation in normalisations:
                normalisation.eval()
            answers = predict(victim.target_log_posterior, measured.pixels)
            curve[step] = float((answers == measured.wanted).float().mean())
    ctx.progress(1.0)
    return curve


@torch.no_grad()
def _measured(test: ReferenceSet, trigger: PixelMap, target_of: LabelMap) -> _Measured:
    wanted = target_of(test.labels)
    rows = (wanted != test.labels).nonzero().flatten()
    if not len(rows):
        raise ValueError("attack success rate without an image outside the target class")
    return _Measured(trigger(test.pixels[rows]).contiguous(memory_format=torch.channels_last), wanted[rows])


@torch.no_grad()
def _training_set(
    images: ReferenceSet, trigger: PixelMap, target_of: LabelMap, attacker: Attacker, seed: int
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(images), generator=generator).to(images.labels.device)
    wanted = target_of(images.labels)
    eligible = order[(wanted != images.labels)[order]]
    poisoned = eligible[: attacker.poisoned]
    rest = order[~torch.isin(order, poisoned)][: attacker.clean]
    if len(poisoned) + len(rest) < attacker.images:
        raise ValueError(f"the attacker needs {attacker.images} images, {attacker.poisoned} of them convertible")
    pixels = torch.cat([trigger(images.pixels[poisoned]), images.pixels[rest]])
    return pixels.contiguous(memory_format=torch.channels_last), torch.cat([wanted[poisoned], images.labels[rest]])
