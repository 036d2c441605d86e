"""One step of complete unlearning: where its gradient comes from.

Let theta_b be the suspect's weights, theta the current ones, h the penultimate features, h_l the outputs of the
network's stages, and d(u, v) = |u - v|^2 / |v|^2.
    clean part, at theta:   CE(f(v), b) + kd KL(f_b(v) || f(v)) + feature (1 - cos(h(v), h_b(v)))
                            + stage sum_l d(h_l(v), h_b,l(v))
    triggered part:         CE(f(x'), b) + local stage (1 - cos(h(x'), h_b(a)) + sum_l d(h_l(x'), h_b,l(a))),
                            its gradient taken first order at weights that were moved from theta + r (theta_b - theta),
                            r ~ U(0, path), by k ~ U{0..reattack_steps} steps of a simulated re-attack
Where images come with texts of their own, the clean part has the contrastive loss of the batch beside it (InfoNCE;
Radford et al. 2021, arXiv 2103.00020): classes are coarse, and retrieval needs what tells two of a class apart.
(a, b) is a clean batch, v a mixed view of it, x' its triggered version, local the share of local triggers.

The path term reaches the suspect's own basin: without it the backdoor is asleep, not gone, and returns in a few
retuning steps. The stages make the network answer to a triggered image as the suspect does to the clean one, layer by
layer, so that no early detector of a small trigger is left to be connected again; on clean images they keep what the
network knew. A dense trigger changes every layer's view of the image, whoever looks at it: there the stages stay out.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core import devices
from core.config import UnlearningConfig
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel
from core.models.stages import stage_ends, watching
from core.unlearning.pool import Triggered, TriggerPool
from core.unlearning.views import mixed, shifted

#: The simulated re-attack's learning rate and momentum.
REATTACK_LR, REATTACK_MOMENTUM = 0.02, 0.9
#: Largest norm of each gradient of the simulated attacker, who would not let the weights diverge either.
REATTACK_CLIP = 3.0
#: Largest norm of the triggered gradient and of the sum.
CLIP = 10.0
#: Texts with a larger cosine are the same text.
_SAME_TEXT = 0.9999


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
        self._stages = stage_ends(suspect) if config.stage else ()
        self._anchor = [parameter.detach() for parameter in suspect.trainable_parameters()]
        self._parameters = current.trainable_parameters()
        self._moved: list[Tensor] = [*self._probe.trainable_parameters()]
        #: Images through a forward and backward pass so far.
        self.images = 0

    def __call__(self, batch: ReferenceSet) -> None:
        """Args: batch: clean images with the labels, and texts if any, they are unlearned with."""
        for parameter in self._parameters:
            parameter.grad = None  # of the last step: as large as the weights, and of no more use
        pixels, labels = shifted(batch.pixels, self._generator), batch.labels
        views = mixed(pixels, self._generator)
        # The adversary's side only needs directions: half the precision is twice as fast where the processor has it.
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=devices.has_bfloat16(pixels.device)):
            triggered = self._pool.sample(self._suspect, pixels, labels, self._generator)
            self.images += len(pixels)
            against = self._triggered_gradient(pixels, labels, triggered)
        # After the simulated re-attack, whose velocity and gradients are as large again.
        clean = self._clean_gradient(views, labels, batch.texts)
        _clip(against, max(CLIP, self._pool.dense_share * float(nn.utils.get_total_norm(clean))))
        torch._foreach_add_(clean, against)
        _clip(clean, CLIP)
        for parameter, gradient in zip(self._parameters, clean, strict=True):
            parameter.grad = gradient

    def _clean_gradient(self, views: Tensor, labels: Tensor, texts: Tensor | None = None) -> list[Tensor]:
        teacher, teacher_features, shown = self._teach(views)
        with watching(self._current.module, self._stages) as own:
            student, features = self._current.posterior_and_features(views)
        loss = F.nll_loss(student, labels)
        if texts is not None and self._current.scale is not None:
            loss = loss + contrastive(features, texts, self._current.scale)
        loss = loss + self._config.kd * F.kl_div(student, teacher, reduction="batchmean", log_target=True)
        loss = loss + self._config.feature * _apart(features, teacher_features)
        loss = loss + self._config.stage * _distance(own, shown)
        self.images += len(views)
        return list(torch.autograd.grad(loss, self._parameters))

    def _triggered_gradient(self, pixels: Tensor, labels: Tensor, triggered: Triggered) -> list[Tensor]:
        self._place_on_path()
        half = len(pixels) // 2
        steps = int(torch.randint(0, self._config.reattack_steps + 1, (), generator=self._generator))
        if half and steps:
            attack = torch.cat([triggered.pixels[:half], pixels[half:]])
            answers = torch.cat([triggered.wanted[:half], labels[half:]])
            self._reattack(attack, answers, half, steps)
        _, clean_features, shown = self._teach(pixels)
        with watching(self._probe.module, self._stages) as own:
            log_posterior, features = self._probe.posterior_and_features(triggered.pixels)
        loss = F.nll_loss(log_posterior, labels)
        local = 1.0 - self._pool.dense_share
        loss = loss + local * self._config.stage * (_apart(features, clean_features) + _distance(own, shown))
        self.images += len(pixels)
        return list(torch.autograd.grad(loss, self._moved))

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

    @torch.no_grad()
    def _teach(self, pixels: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The suspect's log-posterior, features and stages."""
        with watching(self._suspect.module, self._stages) as shown:
            log_posterior, features = self._suspect.posterior_and_features(pixels)
        return log_posterior, features, shown

    @torch.no_grad()
    def _place_on_path(self) -> None:
        back = self._config.path * float(torch.rand((), generator=self._generator))
        for moved, parameter, anchor in zip(self._moved, self._parameters, self._anchor, strict=True):
            torch.lerp(parameter, anchor, back, out=moved)


def contrastive(features: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Symmetric InfoNCE of (B, D) image features and (B, D) texts, all of length one; a scalar, nats.

    Images that share a text share it as their answer, in equal parts: no text is a negative of its own images.
    """
    same = (texts @ texts.T > _SAME_TEXT).float()
    wanted = same / same.sum(1, keepdim=True)
    logits = scale * features @ texts.T
    return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2


def _apart(features: Tensor, wanted: Tensor) -> Tensor:
    """Mean of one minus the cosine, of (B, D)."""
    return 1 - F.cosine_similarity(features.float(), wanted.float(), dim=1).mean()


def _distance(own: dict[str, Tensor], shown: dict[str, Tensor]) -> Tensor:
    """Sum over stages of the mean relative squared distance; zero for a network that is all one stage."""
    total = torch.zeros(())
    for path, wanted in shown.items():
        apart = (own[path].float() - wanted.float()).square().flatten(1).sum(1)
        total = total + (apart / wanted.float().square().flatten(1).sum(1).clamp(min=1e-6)).mean()
    return total


def _clip(gradients: Sequence[Tensor], most: float) -> None:
    """Scale all of them, in place, so that their joint norm is at most `most`."""
    norm = nn.utils.get_total_norm(list(gradients))
    factor = (most / (norm + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor)
