"""I-BAU: adversarial unlearning by the implicit hypergradient (arXiv 2110.03735, ICLR 2022).

min over theta of H(delta(theta), theta), H the cross-entropy of images that carry delta, where the universal
perturbation delta(theta) minimises the inner loss G(delta, theta) = -CE(f(x + delta), y) + weight |delta|^2. It is a
fixed point of Phi(delta, theta) = delta - eta dG/ddelta, so that
    dH/dtheta = d_theta H + (d_theta Phi)^T v,   v = (I - (d_delta Phi)^T)^-1 d_delta H
(equation 4 there), v by five steps of v <- (d_delta Phi)^T v + d_delta H. Perturbations are in pixels of [0, 1];
step and weight are those of the paper's experiments, which are for normalised inputs of spread 1/4. Running
statistics are frozen: batches of perturbed images would move them to where clean images are misread.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.baselines.protocol import PURIFIERS, Purified
from core.baselines.training import Batch, Passes, batches, gradients, half_precision
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel

_SPREAD = 0.25
_WEIGHT = 0.001 / _SPREAD**2
_STEP = 10 * _SPREAD**2
_ETA = 0.1 * _SPREAD**2
_FIXED_POINT_STEPS = 5
#: How many images stand for the inner problem in the hypergradient.
_INNER_IMAGES = 16


def hypergradient(
    mapped: Tensor, delta: Tensor, outer: Tensor, parameters: Sequence[Tensor], steps: int
) -> list[Tensor]:
    """dH/dtheta through the fixed point delta = Phi(delta, theta).

    Args:
        mapped: Phi(delta, theta), with its graph.
        delta: the fixed point, a leaf.
        outer: H(delta, theta), with its graph.
        parameters: theta.
        steps: of the iteration for v, at least one.
    """
    at_delta, *direct = torch.autograd.grad(outer, [delta, *parameters], materialize_grads=True)
    v = at_delta  # the first step from v = 0
    for _ in range(steps - 1):
        (pulled,) = torch.autograd.grad(mapped, delta, v, retain_graph=True)
        v = pulled + at_delta
    through = torch.autograd.grad(mapped, list(parameters), v, materialize_grads=True)
    return [one + other for one, other in zip(direct, through, strict=True)]


@dataclass(frozen=True, slots=True)
class ImplicitUnlearning:
    """Attributes: rounds, epochs of the perturbation in each, lr of Adam, batch size, share of a batch that carries it
    in the outer loss, and the perturbation's largest L2 norm."""

    name: ClassVar[str] = "i-bau"
    rounds: int = 5
    inner_epochs: int = 1
    lr: float = 5e-4
    batch_size: int = 32
    share: float = 0.1
    radius: float = 2.0

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Purified:
        """See `Purifier`."""
        model, passes = suspect.clone(), Passes()
        generator = torch.Generator().manual_seed(seed)
        parameters = model.trainable_parameters()
        optimizer = torch.optim.Adam(parameters, self.lr)
        quiet = RunContext(should_stop=ctx.should_stop)

        def epochs(count: int) -> Iterator[Batch]:
            return batches(reference, epochs=count, size=self.batch_size, generator=generator, ctx=quiet)

        for number in range(self.rounds):
            ctx.progress(number / self.rounds)
            delta = _perturbation(model, epochs(self.inner_epochs), self.radius, passes)
            images = list(epochs(1))
            inner = Batch(images[0].pixels[:_INNER_IMAGES], images[0].labels[:_INNER_IMAGES], 0.0)
            for batch in images:
                ctx.checkpoint()
                slopes = self._slopes(model, delta, inner, batch, passes)
                for parameter, slope in zip(parameters, slopes, strict=True):
                    parameter.grad = slope
                optimizer.step()
        optimizer.zero_grad()
        ctx.progress(1.0)
        return Purified(model, passes.images)

    def _slopes(self, model: SuspectModel, delta: Tensor, inner: Batch, outer: Batch, passes: Passes) -> list[Tensor]:
        """The hypergradient; the inner problem is looked at on one batch, as in the paper's experiments."""
        delta = delta.detach().requires_grad_(True)
        # Fused attention has no second derivative.
        with sdpa_kernel(SDPBackend.MATH):
            loss = _inner_loss(model, inner.pixels, delta, inner.labels)
            (slope,) = torch.autograd.grad(loss, delta, create_graph=True)
        carrying = max(1, round(self.share * len(outer)))
        pixels = torch.cat([outer.pixels[:carrying] + delta, outer.pixels[carrying:]])
        with half_precision(delta):
            on_outer = F.nll_loss(model.target_log_posterior(pixels), outer.labels)
        # Each product with the second derivative goes forward and backward through the graph of the inner gradient.
        passes.both((_FIXED_POINT_STEPS + 1) * len(inner) + len(outer))
        parameters = model.trainable_parameters()
        return hypergradient(delta - _ETA * slope, delta, on_outer, parameters, _FIXED_POINT_STEPS)


def _inner_loss(model: SuspectModel, pixels: Tensor, delta: Tensor, labels: Tensor) -> Tensor:
    return _WEIGHT * delta.square().sum() - F.nll_loss(model.target_log_posterior(pixels + delta), labels)


def _perturbation(model: SuspectModel, images: Iterator[Batch], radius: float, passes: Passes) -> Tensor:
    """(1, C, H, W): gradient descent on the inner loss against the model's own answers, then the ball."""
    delta = torch.zeros((1, *model.input_shape), device=model.trainable_parameters()[0].device)
    for batch in images:
        with half_precision(delta):
            with torch.no_grad():
                answers = model.target_log_posterior(batch.pixels).argmax(1)
            delta.requires_grad_(True)
            loss = _inner_loss(model, batch.pixels, delta, answers)
        (slope,) = gradients(loss, [delta])
        delta = delta.detach() - _STEP * slope
        passes.both(len(batch))
        passes.forward(len(batch))
    norm = float(delta.norm())
    return delta if norm <= radius else delta * (radius / norm)


PURIFIERS.register("i-bau")(ImplicitUnlearning())
