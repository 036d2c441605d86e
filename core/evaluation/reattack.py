"""How fast a backdoor comes back: an attacker retunes the weights on a few poisoned images.

Retuning teaches a clean model the trigger as well. So a curve means something only beside that of a clean model of
the same kind: unlearning is complete when the purified model's curve is no higher.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.context import RunContext
from core.data.reference import ReferenceSet
from core.evaluation.metrics import LabelMap, PixelMap, attack_success_rate
from core.models.protocol import SuspectModel

#: After how many steps the attack is measured. Twenty steps flatter: judge at a hundred.
STEPS: tuple[int, ...] = (5, 10, 20, 50, 100)


@dataclass(frozen=True, slots=True)
class Attacker:
    """What the attacker has and does.

    Attributes:
        poisoned: images stamped and relabelled.
        clean: further images with their true labels, to keep the model useful.
        momentum: of the stochastic gradient descent; every step sees all images.
        clip: largest norm of a gradient. Without it large learning rates destroy the model, which reads as success.
    """

    poisoned: int = 20
    clean: int = 60
    momentum: float = 0.9
    clip: float = 5.0

    @property
    def images(self) -> int:
        return self.poisoned + self.clean


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
    """ASR on `test` after each number of retuning steps in `steps`, which rise; `model` itself stays as it is.

    Args:
        model: attacked in a copy, normalisation statistics frozen.
        attacker_images: where the attacker's images are drawn from, disjoint from `test`.
        test: what the attack is measured on.
        trigger: the true trigger in benchmarks, an inverted one in a scan.
        target_of: the class each true class is sent to.
        lr: learning rate of the attacker.
        seed: draws the attacker's images.
        ctx: progress, and a point to stop at every step.
        steps: when to measure.
        attacker: how many images, and momentum; None for the usual 20 and 60.

    Raises:
        ValueError: there are fewer images than the attacker needs.
    """
    attacker = attacker or Attacker()
    pixels, labels = _training_set(attacker_images, trigger, target_of, attacker, seed)
    victim = model.clone()
    parameters = victim.trainable_parameters()
    optimizer = torch.optim.SGD(parameters, lr=lr, momentum=attacker.momentum)
    curve: dict[int, float] = {}
    for step in range(1, steps[-1] + 1):
        ctx.progress((step - 1) / steps[-1])
        loss = F.nll_loss(victim.target_log_posterior(pixels), labels)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(parameters, attacker.clip)
        optimizer.step()
        if step in steps:
            curve[step] = attack_success_rate(victim.target_log_posterior, test.pixels, test.labels, trigger, target_of)
    ctx.progress(1.0)
    return curve


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
    return pixels, torch.cat([wanted[poisoned], images.labels[rest]])
