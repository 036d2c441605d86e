"""Chooses mean and standard deviation: request, checkpoint, or the usual candidates compared on the reference set."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from core.data.reference import ReferenceSet
from core.data.transforms import Normalisation, normalisations

#: Images to compare by: as many as make up so many pixels, within these bounds.
_SAMPLE_PIXELS = 128 * 48 * 48
_FEWEST, _MOST = 32, 200
#: How many candidates the first layer's statistics leave over for a comparison by accuracy.
_SHORTLIST = 4
#: Images that `accuracy` looks at.
_MAX_IMAGES = 512
_BATCH = 64
#: Accuracies this near the best one do not tell candidates apart.
_NEAR = 0.02


class _EnoughError(Exception):
    """Ends a forward pass after the layer of interest."""


@dataclass(frozen=True, slots=True)
class _Fit:
    """How well a network takes images under one normalisation.

    Attributes:
        mismatch: mean divergence of the first normalisation layer's input from its stored statistics (nats per
            channel); 0 without such a layer.
        accuracy: on labelled images; 0 without labels.
        likelihood: mean log-probability of the label; of the predicted class without labels.
    """

    name: str
    normalisation: Normalisation
    mismatch: float = 0.0
    accuracy: float = 0.0
    likelihood: float = 0.0


def choose(module: nn.Module, channels: int, reference: ReferenceSet | None) -> tuple[Normalisation, str]:
    """The candidate that fits best, and how it was found.

    The statistics that the first batch normalisation stores tell the input's distribution of training: they make the
    shortlist, and decide alone where there are no labels. With labels the accuracy decides, then the likelihood.
    Networks without such statistics: confidence instead. Without images: the architecture's default.

    Args:
        module: in evaluation mode, taking normalised images of the reference set's shape.
        channels: 1 or 3.
    """
    candidates = normalisations(channels)
    default = _architecture_default(module, channels)
    if reference is None:
        return default or candidates["identity"], "architecture (no reference set to choose by)"
    if default is not None:
        candidates = {"architecture": default, **{k: v for k, v in candidates.items() if v != default}}
    sample = _spread(reference, min(_MOST, max(_FEWEST, _SAMPLE_PIXELS // reference.pixels[0, 0].numel())))
    norm = next((layer for layer in module.modules() if isinstance(layer, nn.BatchNorm2d)), None)
    fits = [
        _Fit(name, value, 0.0 if norm is None else _mismatch(module, norm, value, sample))
        for name, value in candidates.items()
    ]
    if norm is not None:
        fits = sorted(fits, key=lambda fit: fit.mismatch)[:_SHORTLIST]
        if not sample.labelled:
            return fits[0].normalisation, f"reference statistics ({fits[0].name})"
    fits = [_measure(module, fit, sample) for fit in fits]
    top = max(fit.accuracy for fit in fits)
    best = max((fit for fit in fits if fit.accuracy >= top - _NEAR), key=lambda fit: fit.likelihood)
    if sample.labelled:
        return best.normalisation, f"reference accuracy ({best.name}: {best.accuracy:.3f})"
    return best.normalisation, f"reference confidence ({best.name})"


def _architecture_default(module: nn.Module, channels: int) -> Normalisation | None:
    """What timm says about its network; ImageNet's for torchvision; None for small-image families."""
    config = getattr(module, "pretrained_cfg", None)
    if isinstance(config, dict) and config.get("mean") and config.get("std"):
        mean, std = tuple(map(float, config["mean"])), tuple(map(float, config["std"]))
        return (mean, std) if len(mean) == len(std) == channels else None
    if type(module).__module__.startswith("torchvision.") and channels == 3:
        return normalisations(3)["imagenet"]
    return None


def _spread(reference: ReferenceSet, count: int) -> ReferenceSet:
    """At most `count` images, evenly spaced."""
    return reference.subset(torch.linspace(0, len(reference) - 1, min(len(reference), count)).long())


def _normalised(pixels: Tensor, normalisation: Normalisation) -> Tensor:
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in normalisation)
    return (pixels - mean) / std


def _mismatch(module: nn.Module, norm: nn.BatchNorm2d, normalisation: Normalisation, sample: ReferenceSet) -> float:
    """KL between Gaussians per channel: what comes into `norm` against what it remembers."""
    seen: list[Tensor] = []

    def look(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        seen.append(inputs[0])
        raise _EnoughError

    handle = norm.register_forward_pre_hook(look)
    try:
        with torch.no_grad(), contextlib.suppress(_EnoughError):
            module(_normalised(sample.pixels, normalisation))
    finally:
        handle.remove()
    if not seen or norm.running_mean is None or norm.running_var is None:
        return 0.0
    mean, variance = seen[0].mean((0, 2, 3)), seen[0].var((0, 2, 3)) + norm.eps
    stored = norm.running_var + norm.eps
    divergence = 0.5 * ((variance + (mean - norm.running_mean).square()) / stored - 1 - (variance / stored).log())
    return divergence.mean().item()


def _measure(module: nn.Module, fit: _Fit, sample: ReferenceSet) -> _Fit:
    with torch.no_grad():
        inputs = _normalised(sample.pixels, fit.normalisation)
        logits = torch.cat([module(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)])
    log_posterior = log_softmax(logits.float(), 1)
    labels = sample.labels if sample.labelled else log_posterior.argmax(1)
    hits = (log_posterior.argmax(1) == labels).float().mean().item() if sample.labelled else 0.0
    likelihood = log_posterior.gather(1, labels[:, None]).mean().item()
    return replace(fit, accuracy=hits, likelihood=likelihood)


def accuracy(predict: Callable[[Tensor], Tensor], reference: ReferenceSet) -> float:
    """Fraction that `predict` (pixels -> (B, K)) gets right, on up to 512 images of a labelled reference set."""
    sample = _spread(reference, _MAX_IMAGES)
    hits = 0
    with torch.no_grad():
        for start in range(0, len(sample), _BATCH):
            rows = slice(start, start + _BATCH)
            hits += int((predict(sample.pixels[rows]).argmax(1) == sample.labels[rows]).sum())
    return hits / len(sample)
