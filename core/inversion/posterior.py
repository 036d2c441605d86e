"""The E-step, and the closed-form half of the M-step: the transition p(z|y)."""

import torch
from torch import Tensor

#: Memory of the sufficient statistics between stochastic steps.
MEMORY = 0.9
#: Weight and composition of the Dirichlet prior of each row: the shared marginal, and a uniform floor.
CONCENTRATION, SHARED = 1.0, 0.9
_SINKHORN = 20


def fixed_transition(targets: list[int], classes: int) -> Tensor:
    """One-hot columns: p(z|y) = 1 for the target, all sources but the target itself.

    Returns:
        (M, K, K); row `target` of each is zero, because an image of the target class has nowhere to go.
    """
    transition = torch.zeros(len(targets), classes, classes)
    for particle, target in enumerate(targets):
        transition[particle, :, target] = 1.0
        transition[particle, target] = 0.0
    return transition


def uniform_transition(particles: int, classes: int) -> Tensor:
    """(M, K, K) with zero diagonal and uniform rows: nothing known about the targets."""
    row = (1.0 - torch.eye(classes)) / (classes - 1)
    return row.expand(particles, classes, classes).clone()


def e_step(log_posterior: Tensor, log_transition: Tensor) -> tuple[Tensor, Tensor]:
    """Responsibilities r_iz in proportion to p(z|y_i) p(z|x'_i), and the log-marginal they normalise.

    Args:
        log_posterior: (..., K) log-probabilities of the suspect on changed images.
        log_transition: (..., K) log p(z|y_i), -inf at z = y_i.

    Returns:
        responsibilities (..., K), rows sum to one (zero where a row has no target at all), and log-marginals (...).
    """
    joint = log_posterior + log_transition
    marginal = torch.logsumexp(joint, dim=-1)
    impossible = torch.isinf(marginal)
    safe = torch.where(impossible, torch.zeros_like(marginal), marginal)
    return (joint - safe[..., None]).exp(), marginal


def m_step_transition(counts: Tensor, balanced: bool = True) -> Tensor:
    """Posterior mean of p(z|y) under the hierarchical Dirichlet prior: rows borrow from a shared marginal.

    Args:
        counts: (M, K, K) expected transitions, >= 0.
        balanced: the shared marginal is known to be uniform (every class is a target as often as it is a source, as
            under a label shift) and columns are balanced too. Without it a learned component falls for the one class
            that is easiest to reach, which the targeted components look at anyway.

    Returns:
        (M, K, K), zero diagonal, rows sum to one.
    """
    classes = counts.shape[-1]
    total = counts.sum(dim=(1, 2), keepdim=True)
    marginal = counts.sum(dim=1, keepdim=True) / total.clamp(min=1e-12)
    base = torch.full_like(marginal, 1.0 / classes) if balanced else SHARED * marginal + (1.0 - SHARED) / classes
    rows = (counts + CONCENTRATION * base) * (1.0 - torch.eye(classes, device=counts.device))
    if balanced:
        for _ in range(_SINKHORN):
            rows = rows / rows.sum(dim=-1, keepdim=True)
            rows = rows / rows.sum(dim=-2, keepdim=True)
    return rows / rows.sum(dim=-1, keepdim=True)


def accumulate(sources: Tensor, responsibilities: Tensor, weight: Tensor) -> Tensor:
    """Expected transitions of a batch.

    Args:
        sources: (M, B) source classes. responsibilities: (M, B, K). weight: (M, B) in [0, 1].

    Returns:
        (M, K, K).
    """
    particles, _, classes = responsibilities.shape
    counts = responsibilities.new_zeros(particles, classes, classes)
    index = sources[:, :, None].expand(-1, -1, classes)
    return counts.scatter_add_(1, index, responsibilities * weight[:, :, None])


def mutual_information(sources: Tensor, answers: Tensor, classes: int) -> float:
    """I(source; answer) in nats of paired class indices (N,), less its first-order small-sample bias; >= 0."""
    if len(sources) == 0:
        return 0.0
    table = torch.bincount(sources * classes + answers, minlength=classes * classes).reshape(classes, classes).double()
    joint = table / table.sum()
    rows, columns = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    used = joint > 0
    information = (joint * (joint / (rows * columns).clamp(min=1e-300)).log())[used].sum()
    cells = int(used.sum()) - int((rows > 0).sum()) - int((columns > 0).sum()) + 1
    return max(0.0, float(information) - cells / (2 * len(sources)))
