"""Chooses mean and standard deviation: request, checkpoint, or the usual candidates compared on the reference set."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from core.data.reference import ReferenceSet
from core.data.transforms import Normalisation, normalisations

_MAX_IMAGES = 256
_BATCH = 64
#: Accuracies this near the best one do not tell candidates apart.
_NEAR = 0.02


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a network takes images under one normalisation.

    Attributes:
        name: of the candidate.
        normalisation: (mean, std).
        accuracy: on labelled images; None without labels.
        mismatch: mean divergence of the first normalisation layer's input from its stored statistics (nats per
            channel); None without such a layer.
        confidence: mean log-probability of the predicted class.
    """

    name: str
    normalisation: Normalisation
    accuracy: float | None
    mismatch: float | None
    confidence: float


def choose(module: nn.Module, channels: int, reference: ReferenceSet | None) -> tuple[Normalisation, str]:
    """The candidate that fits best, and how it was found.

    With labels the accuracy decides, then the stored statistics of the first batch normalisation; without labels
    these statistics alone, or the confidence where there are none. Without images: the ImageNet or plain [0, 1] one.

    Args:
        module: in evaluation mode, taking normalised images of the reference set's shape.
        channels: 1 or 3.
    """
    candidates = normalisations(channels)
    if reference is None:
        return candidates["identity"], "default (no reference set to choose by)"
    index = torch.linspace(0, len(reference) - 1, min(len(reference), _MAX_IMAGES)).long()
    sample = reference.subset(index)
    fits = [measure(module, name, value, sample) for name, value in candidates.items()]
    best = _best(fits)
    if sample.labelled:
        return best.normalisation, f"reference accuracy ({best.name}: {best.accuracy:.3f})"
    how = "reference confidence" if best.mismatch is None else "reference statistics"
    return best.normalisation, f"{how} ({best.name})"


def _best(fits: list[Fit]) -> Fit:
    top = max(fit.accuracy or 0.0 for fit in fits)
    near = [fit for fit in fits if (fit.accuracy or 0.0) >= top - _NEAR]
    if all(fit.mismatch is not None for fit in near):
        return min(near, key=lambda fit: fit.mismatch or 0.0)
    return max(near, key=lambda fit: (fit.accuracy or 0.0, fit.confidence))


def measure(module: nn.Module, name: str, normalisation: Normalisation, sample: ReferenceSet) -> Fit:
    """Runs the sample through the network under one normalisation."""
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in normalisation)
    norm = next((layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)), None)
    seen: list[Tensor] = []
    handle = None
    if norm is not None and norm.running_mean is not None:
        handle = norm.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        log_posterior = _predict(module, (sample.pixels - mean) / std)
    finally:
        if handle is not None:
            handle.remove()
    confidence, predicted = log_posterior.max(1)
    accuracy = (predicted == sample.labels).float().mean().item() if sample.labelled else None
    mismatch = _divergence(torch.cat(seen), norm) if seen and norm is not None else None
    return Fit(name, normalisation, accuracy, mismatch, confidence.mean().item())


def accuracy(predict: Callable[[Tensor], Tensor], reference: ReferenceSet) -> float:
    """Fraction of a labelled reference set that `predict` (pixels -> (B, K)) gets right."""
    with torch.no_grad():
        hits = sum(
            (predict(reference.pixels[start : start + _BATCH]).argmax(1) == reference.labels[start : start + _BATCH])
            .sum()
            .item()
            for start in range(0, len(reference), _BATCH)
        )
    return hits / len(reference)


def _predict(module: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        batches = [module(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)]
    return log_softmax(torch.cat(batches).float(), 1)


def _divergence(inputs: Tensor, norm: nn.BatchNorm2d) -> float:
    """KL between Gaussians per channel: what comes in against what the layer remembers."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3)) + norm.eps
    stored = norm.running_var + norm.eps
    divergence = 0.5 * ((variance + (mean - norm.running_mean).square()) / stored - 1 - (variance / stored).log())
    return divergence.mean().item()
