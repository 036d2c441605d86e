"""Generalised EM on a fixed batch: no step makes the objective worse."""

import torch
from torch import Tensor

from core.inversion.particles import Bank, Images, log_marginal
from core.inversion.posterior import accumulate, e_step, m_step_transition
from core.models.protocol import SuspectModel

_FIRST_STEP, _SHRINK, _ATTEMPTS = 0.3, 0.4, 4


def objective(model: SuspectModel, bank: Bank, images: Images) -> Tensor:
    """The log-posterior being maximised, up to a constant: mean log-marginal minus weighted energy, (M,)."""
    return _evaluate(model, bank, images)[0]


def _evaluate(model: SuspectModel, bank: Bank, images: Images) -> tuple[Tensor, Tensor, Tensor]:
    """The objective (M,), responsibilities (M, N, K) and which samples count (M, N)."""
    particles = bank.operator.particles
    pixels = images.pixels.expand(particles, *images.pixels.shape)
    sources = images.sources.expand(particles, -1)
    changed = bank.operator.render(pixels)
    log_posterior, log_transition = log_marginal(model, changed, sources, bank.transition)
    with torch.no_grad():
        responsibility, marginal = e_step(log_posterior, log_transition)
        weight = (~torch.isinf(marginal)).float()
    joint = torch.logsumexp(log_posterior + torch.where(weight[..., None] > 0, log_transition, 0.0), dim=-1)
    share = weight / weight.sum(1, keepdim=True).clamp(min=1.0)
    return (share * joint).sum(1) - bank.prior_weight * bank.operator.energies(), responsibility, weight


def ascend(model: SuspectModel, bank: Bank, images: Images, steps: int) -> list[float]:
    """Up to `steps` EM steps on all `images` at strength one, with the prior weight held; for one particle.

    Each step takes the E-step exactly, then moves the operator along its gradient, scaled per element as Adam's
    first step is, with a step size that shrinks until the objective rises. A learned transition is re-estimated from
    the same E-step and kept only if that does not lower the objective.

    Returns:
        The objective before the first and after every accepted step: it never falls.
    """
    operator = bank.operator
    parameters = list(operator.parameters())
    current, responsibility, weight = _evaluate(model, bank, images)
    history = [current.detach().item()]
    size = _FIRST_STEP * operator.learning_rate
    for _ in range(steps):
        gradients = torch.autograd.grad(current.sum(), parameters)
        start = [parameter.detach().clone() for parameter in parameters]
        for _ in range(_ATTEMPTS):
            with torch.no_grad():
                for parameter, origin, gradient in zip(parameters, start, gradients, strict=True):
                    parameter.copy_(origin + size * gradient / gradient.abs().mean().clamp(min=1e-12).mul(3.0))
            moved, next_responsibility, next_weight = _evaluate(model, bank, images)
            if moved.detach().item() >= history[-1]:
                break
            size *= _SHRINK
        else:
            with torch.no_grad():
                for parameter, origin in zip(parameters, start, strict=True):
                    parameter.copy_(origin)
            break
        current, responsibility, weight = moved, next_responsibility, next_weight
        history.append(current.detach().item())
        if bank.targets[0] is None:
            current, responsibility, weight = _try_transition(model, bank, images, current, responsibility, weight)
            history[-1] = current.detach().item()
    return history


def _try_transition(
    model: SuspectModel, bank: Bank, images: Images, current: Tensor, responsibility: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    earlier = bank.transition
    bank.transition = m_step_transition(accumulate(images.sources[None], responsibility, weight))
    moved, next_responsibility, next_weight = _evaluate(model, bank, images)
    if moved.detach().item() >= current.detach().item():
        return moved, next_responsibility, next_weight
    bank.transition = earlier
    return current, responsibility, weight
