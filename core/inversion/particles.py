"""The stochastic EM loop over a bank of particles: one forward and backward pass per step."""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.inversion.posterior import MEMORY, accumulate, e_step, fixed_transition, m_step_transition, uniform_transition
from core.models.protocol import SuspectModel
from core.triggers.base import ParticleOperator, Placement

#: Per-sample strength is log-uniform between these.
STRENGTH = (0.6, 2.5)
#: Largest per-pixel residual of a sample beside the shared trigger.
RESIDUAL = 0.02
#: The prior weight moves by this factor per step, between these bounds.
DUAL_STEP, DUAL_BOUNDS = 1.12, (0.01, 5.0)
_BETAS, _EPSILON = (0.5, 0.9), 1e-8
#: A fit's loss is the mean over so many of its last steps.
TAIL = 4


@dataclass(slots=True)
class Moments:
    """Adam's running moments of every particle, kept with it so that a pruned hypothesis goes on where it was.

    Attributes:
        first, second: one tensor per parameter of the operator, leading axis M.
        steps: taken so far, by all particles of the bank alike.
    """

    first: list[Tensor]
    second: list[Tensor]
    steps: int = 0

    @classmethod
    def of(cls, operator: ParticleOperator) -> "Moments":
        parameters = list(operator.parameters())
        return cls([torch.zeros_like(p) for p in parameters], [torch.zeros_like(p) for p in parameters])

    def select(self, index: Tensor) -> "Moments":
        return Moments([m[index].clone() for m in self.first], [v[index].clone() for v in self.second], self.steps)

    @torch.no_grad()
    def step(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor], size: float) -> None:
        """One bias-corrected Adam step (Kingma and Ba 2015) of length `size`, in place."""
        self.steps += 1
        fast, slow = _BETAS
        for parameter, gradient, first, second in zip(parameters, gradients, self.first, self.second, strict=True):
            first.mul_(fast).add_(gradient, alpha=1 - fast)
            second.mul_(slow).addcmul_(gradient, gradient, value=1 - slow)
            spread = (second / (1 - slow**self.steps)).sqrt_().add_(_EPSILON)
            parameter.addcdiv_(first, spread, value=-size / (1 - fast**self.steps))


@dataclass(slots=True)
class Images:
    """What the triggers are fitted on or measured on.

    Attributes:
        pixels: (N, C, H, W) in [0, 1].
        sources: (N,) the suspect's own answer on each clean image: a flip is a change of that answer.
    """

    pixels: Tensor
    sources: Tensor

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(slots=True)
class Bank:
    """Components of the mixture that are optimised together.

    Attributes:
        operator: M particles.
        targets: the hypothesis of each; None where p(z|y) is learned.
        transition: (M, K, K). counts: (M, K, K) sufficient statistics of the learned ones.
        prior_weight: (M,) dual variable in front of the energy.
        moments: of the optimiser.
    """

    operator: ParticleOperator
    targets: list[int | None]
    transition: Tensor
    counts: Tensor
    prior_weight: Tensor
    moments: Moments

    @classmethod
    def create(cls, operator: ParticleOperator, targets: Sequence[int | None], classes: int) -> "Bank":
        transition = torch.cat(
            [uniform_transition(1, classes) if t is None else fixed_transition([t], classes) for t in targets]
        ).to(operator.scale.device)
        weight = torch.full((len(targets),), 0.1, device=operator.scale.device)
        counts = torch.zeros_like(transition)
        return cls(operator, list(targets), transition, counts, weight, Moments.of(operator))

    def select(self, rows: Sequence[int]) -> "Bank":
        index = torch.tensor(list(rows), device=self.transition.device)
        return Bank(
            self.operator.select(rows),
            [self.targets[row] for row in rows],
            self.transition[index].clone(),
            self.counts[index].clone(),
            self.prior_weight[index].clone(),
            self.moments.select(index),
        )

    def restart(self, operator: ParticleOperator, prior_weight: float) -> None:
        """Go on with `operator` (the same, or what it turned into) from a fresh optimiser and this prior weight."""
        self.operator, self.moments = operator, Moments.of(operator)
        self.prior_weight.fill_(prior_weight)


@dataclass(slots=True)
class Draw:
    """What is random in one step.

    Attributes:
        rows: (B,) numbers of images.
        strength: (M, B). placement: of the trigger in each sample, as its operator understands it.
    """

    rows: Tensor
    strength: Tensor
    placement: Placement


def draws(
    operator: ParticleOperator, images: int, steps: int, batch: int, generator: torch.Generator
) -> Iterator[Draw]:
    """One for each step. How many random numbers that takes does not depend on what the operator has learned.

    Args:
        images: N; all of them are drawn before any is again.
        batch: B <= N.
    """
    low, high = math.log(STRENGTH[0]), math.log(STRENGTH[1])
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < batch:
            order = torch.randperm(images, generator=generator)
        rows, order = order[:batch], order[batch:]
        uniform = torch.rand(operator.particles, batch, generator=generator)
        yield Draw(rows, (low + (high - low) * uniform).exp(), operator.draw(batch, generator))


@contextlib.contextmanager
def frozen(model: SuspectModel) -> Iterator[None]:
    """No gradients for the suspect's parameters: inversion needs those of the pixels only."""
    moving = [parameter for parameter in model.module.parameters() if parameter.requires_grad]
    for parameter in moving:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in moving:
            parameter.requires_grad_(True)


def log_marginal(model: SuspectModel, pixels: Tensor, sources: Tensor, transition: Tensor) -> tuple[Tensor, Tensor]:
    """The suspect's log-posterior on (M, B, C, H, W) and log p(z|y): both (M, B, K)."""
    particles, batch = pixels.shape[:2]
    log_posterior = model.target_log_posterior(pixels.flatten(0, 1)).reshape(particles, batch, -1)
    rows = torch.gather(transition, 1, sources[:, :, None].expand(-1, -1, transition.shape[-1]))
    return log_posterior, rows.log()


def fit(
    model: SuspectModel,
    bank: Bank,
    images: Images,
    *,
    steps: int,
    batch_size: int,
    flip_rate: float,
    generator: torch.Generator,
    on_step: Callable[[int], None],
    residual: bool = False,
    decay: float = 1.0,
) -> Tensor:
    """Optimise every particle of `bank` for `steps` stochastic EM steps, in place.

    Args:
        images: all (N,) of them are drawn from, with replacement between steps.
        flip_rate: what the prior weight steers the share of flipped samples to.
        on_step: called with the number of images each step processed; may raise to stop.
        residual: whether each image also carries a residual of its own, moved one sign step per visit with the
            input gradient of the same pass.
        decay: what the step size falls to, linearly, as a share of what it begins with.

    Returns:
        (M,) mean negative log-marginals per counted sample over the last TAIL steps, nats; NaN, at once, if an answer
        of the suspect is none.
    """
    operator = bank.operator
    device = images.pixels.device
    parameters = list(operator.parameters())
    rate_falls = (1.0 - decay) / max(1, steps - 1)
    batch = min(batch_size, len(images))
    drift = torch.zeros(operator.particles, *images.pixels.shape, device=device) if residual else None
    learned = torch.tensor([target is None for target in bank.targets], device=device)
    loss_sum = torch.zeros(operator.particles, device=device)
    for step, drawn in enumerate(draws(operator, len(images), steps, batch, generator)):
        rows, strength, placement = drawn.rows.to(device), drawn.strength.to(device), drawn.placement
        pixels = images.pixels[rows].expand(operator.particles, *images.pixels[rows].shape)
        sources = images.sources[rows].expand(operator.particles, batch)
        changed = operator.render(pixels, strength, placement)
        if drift is not None:
            changed = (changed + drift[:, rows]).clamp(0.0, 1.0)
        log_posterior, log_transition = log_marginal(model, changed, sources, bank.transition)
        responsibility, marginal = e_step(log_posterior.detach(), log_transition)
        weight = (~torch.isinf(marginal)).float()
        share = weight / weight.sum(1, keepdim=True).clamp(min=1.0)
        # The gradient of the log-marginal is that of the expected log-posterior under the responsibilities.
        loss = -(share * (responsibility * log_posterior).sum(-1)).sum(1) + bank.prior_weight * operator.energies()
        if not bool(loss.isfinite().all()):
            return torch.full_like(loss_sum, torch.nan)
        moving = parameters if drift is None else [*parameters, changed]
        gradients = torch.autograd.grad(loss.sum(), moving)
        size = operator.learning_rate * (1.0 - rate_falls * step)
        bank.moments.step(parameters, gradients[: len(parameters)], size)
        with torch.no_grad():
            if drift is not None:
                moved = drift[:, rows] - RESIDUAL / 2 * gradients[-1].sign()
                drift[:, rows] = moved.clamp(-RESIDUAL, RESIDUAL)
            marginal = torch.where(weight > 0, marginal, torch.zeros_like(marginal))
            operator.observe(placement, marginal, weight)
            if step >= steps - TAIL:
                loss_sum -= (share * marginal).sum(1)
            flipped = (log_posterior.argmax(-1) == responsibility.argmax(-1)).float()
            rate = (flipped * share).sum(1)
            factor = torch.where(rate > flip_rate, DUAL_STEP, 1.0 / DUAL_STEP)
            bank.prior_weight = (bank.prior_weight * factor).clamp(*DUAL_BOUNDS)
            if bool(learned.any()):
                bank.counts = MEMORY * bank.counts + accumulate(sources, responsibility, weight)
                bank.transition = torch.where(learned[:, None, None], m_step_transition(bank.counts), bank.transition)
        on_step(operator.particles * batch)
    return loss_sum / max(1, min(TAIL, steps))
