"""One step of complete unlearning: where its gradient comes from.

Let theta_b be the suspect's weights and theta the current ones.
    clean part, at theta:      CE(f(v), b) + kd KL(f_b(v) || f(v)) + feature (1 - cos(h(v), h_b(v)))
    triggered part:            CE(f(x'), b), its gradient taken first order at weights that were moved from
                               theta + r (theta_b - theta), r ~ U(0, path), by k ~ U{0..reattack_steps} steps of a
                               simulated re-attack
(a, b) is a clean batch, v a mixed view of it, x' its triggered version, h the penultimate features. The path term
reaches the suspect's own basin: without it the backdoor is asleep, not gone, and returns in a few retuning steps.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import devices
from core.config import UnlearningConfig
from core.models.protocol import SuspectModel
from core.unlearning.pool import Triggered, TriggerPool
from core.unlearning.views import mixed, shifted

#: The simulated re-attack's learning rate and momentum.
REATTACK_LR, REATTACK_MOMENTUM = 0.02, 0.9
#: Largest norm of each gradient of the simulated attacker, who would not let the weights diverge either.
REATTACK_CLIP = 3.0
#: Largest norm of the triggered gradient: this, or for dense triggers this share of the clean gradient's norm. They are
#: only approximated, so unlearning them has to reach beyond what was found; a bound of 3 drowns in clean gradients of
#: norm 10 to 50, as networks without a normalisation before the pooling have them.
TRIGGERED_CLIP, DENSE_SHARE = 3.0, 1.0
#: Largest norm of the sum.
CLIP = 5.0


class UnlearningStep:
    """Writes the gradient of one step into the parameters of `current`.

    Args:
        suspect: f_b, left as it is.
        current: f, whose gradients are written; the same architecture.
        pool: where triggered images come from.
        config: weights of the terms.
        generator: source of all randomness.
    """

    def __init__(
        self,
        suspect: SuspectModel,
        current: SuspectModel,
        pool: TriggerPool,
        config: UnlearningConfig,
        generator: torch.Generator,
    ) -> None:
        self._suspect, self._current, self._pool = suspect, current, pool
        self._config, self._generator = config, generator
        self._probe = current.clone()
        self._anchor = [parameter.detach() for parameter in suspect.trainable_parameters()]
        self._parameters = current.trainable_parameters()
        self._moved: list[Tensor] = [*self._probe.trainable_parameters()]
        #: Images through a forward and backward pass so far.
        self.images = 0

    def __call__(self, pixels: Tensor, labels: Tensor) -> None:
        """Args: pixels (B, C, H, W) in [0, 1]; labels (B,)."""
        pixels = shifted(pixels, self._generator)
        clean = self._clean_gradient(mixed(pixels, self._generator), labels)
        # The adversary's side only needs directions: half the precision is twice as fast where the processor has it.
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=devices.has_bfloat16(pixels.device)):
            triggered = self._pool.sample(self._suspect, pixels, labels, self._generator)
            against = self._triggered_gradient(pixels, labels, triggered)
        share = DENSE_SHARE * self._pool.dense_share
        _clip(against, max(TRIGGERED_CLIP, share * float(nn.utils.get_total_norm(clean))))
        total = [one + other for one, other in zip(clean, against, strict=True)]
        _clip(total, CLIP)
        for parameter, gradient in zip(self._parameters, total, strict=True):
            parameter.grad = gradient

    def _clean_gradient(self, views: Tensor, labels: Tensor) -> list[Tensor]:
        with torch.no_grad():
            teacher, teacher_features = self._suspect.posterior_and_features(views)
        student, features = self._current.posterior_and_features(views)
        loss = F.nll_loss(student, labels)
        loss = loss + self._config.kd * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        apart = 1 - F.cosine_similarity(features, teacher_features, dim=1).mean()
        self.images += len(views)
        return list(torch.autograd.grad(loss + self._config.feature * apart, self._parameters))

    def _triggered_gradient(self, pixels: Tensor, labels: Tensor, triggered: Triggered) -> list[Tensor]:
        self._place_on_path()
        half = len(pixels) // 2
        steps = int(torch.randint(0, self._config.reattack_steps + 1, (), generator=self._generator))
        if half and steps:
            attack = torch.cat([triggered.pixels[:half], pixels[half:]])
            answers = torch.cat([triggered.wanted[:half], labels[half:]])
            self._reattack(attack, answers, half, steps)
        loss = F.nll_loss(self._probe.target_log_posterior(triggered.pixels), labels)
        self.images += 2 * len(pixels)
        return list(torch.autograd.grad(loss, self._moved))

    @torch.no_grad()
    def _place_on_path(self) -> None:
        back = self._config.path * float(torch.rand((), generator=self._generator))
        for moved, parameter, anchor in zip(self._moved, self._parameters, self._anchor, strict=True):
            torch.lerp(parameter, anchor, back, out=moved)

    def _reattack(self, pixels: Tensor, answers: Tensor, poisoned: int, steps: int) -> None:
        velocity = [torch.zeros_like(parameter) for parameter in self._moved]
        for _ in range(steps):
            log_posterior = self._probe.target_log_posterior(pixels)
            loss = F.nll_loss(log_posterior[:poisoned], answers[:poisoned])
            loss = loss + F.nll_loss(log_posterior[poisoned:], answers[poisoned:])
            gradients = torch.autograd.grad(loss, self._moved)
            _clip(gradients, REATTACK_CLIP)
            with torch.no_grad():
                torch._foreach_mul_(velocity, REATTACK_MOMENTUM)
                torch._foreach_add_(velocity, gradients)
                torch._foreach_add_(self._moved, velocity, alpha=-REATTACK_LR)
        self.images += steps * len(pixels)


def _clip(gradients: Sequence[Tensor], most: float) -> None:
    """Scale all of them, in place, so that their joint norm is at most `most`."""
    norm = nn.utils.get_total_norm(list(gradients))
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
