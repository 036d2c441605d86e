"""Masks and noise on the neurons of a network: what adversarial neuron perturbation works on.

A neuron is an output channel of a batch normalisation; in networks without one, of a convolution or linear layer other
than the head. With y = w h + b its output, the perturbed one is (mask + noise) w h + (1 + shift) b.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from core.models.protocol import SuspectModel
from core.models.splitting import head_path


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of neurons: where it is, and (neurons,) mask, noise and shift, all of which carry gradients."""

    path: str
    mask: Tensor
    noise: Tensor
    shift: Tensor

    def perturb(self, output: Tensor, bias: Tensor | None, channels: int) -> Tensor:
        """The layer's output, with its neurons along dimension `channels`, after the perturbation."""
        shape = [1] * output.dim()
        shape[channels] = -1
        scale = (self.mask + self.noise).view(shape)
        if bias is None:
            return scale * output
        base = bias.view(shape)
        return scale * (output - base) + (1 + self.shift.view(shape)) * base


class Neurons:
    """All neurons of a model, unperturbed at first: masks 1, noise and shift 0."""

    def __init__(self, model: SuspectModel) -> None:
        paths = neuron_layers(model)
        self._network = model.module
        self.layers = tuple(self._layer(path) for path in paths)

    def _layer(self, path: str) -> Layer:
        weight = self._network.get_submodule(path).get_parameter("weight")
        size, device = weight.shape[0], weight.device
        mask = torch.ones(size, device=device, requires_grad=True)
        noise, shift = torch.zeros((2, size), device=device)
        return Layer(path, mask, noise.requires_grad_(True), shift.requires_grad_(True))

    @property
    def masks(self) -> list[Tensor]:
        return [layer.mask for layer in self.layers]

    @property
    def noises(self) -> list[Tensor]:
        """Noise and shift of every layer."""
        return [part for layer in self.layers for part in (layer.noise, layer.shift)]

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """The network computes with the perturbation, for the duration."""

        def hook(layer: Layer, module: nn.Module, output: Tensor) -> Tensor:
            bias = getattr(module, "bias", None)
            return layer.perturb(output, bias, output.dim() - 1 if isinstance(module, nn.Linear) else 1)

        handles = [
            self._network.get_submodule(layer.path).register_forward_hook(
                lambda module, _, output, layer=layer: hook(layer, module, output)
            )
            for layer in self.layers
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def neuron_layers(model: SuspectModel) -> tuple[str, ...]:
    """Paths of the layers whose output channels count as neurons, by their order in the network."""
    layers = dict(model.module.named_modules())
    normalised = [
        path for path, layer in layers.items() if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.affine
    ]
    if normalised:
        return tuple(normalised)
    head = head_path(model.module, model.num_targets)
    return tuple(path for path, layer in layers.items() if isinstance(layer, nn.Conv2d | nn.Linear) and path != head)


@torch.no_grad()
def prune(model: SuspectModel, layer: Layer, neuron: int) -> None:
    """In place: the weights of one neuron become zero; its bias stays."""
    model.module.get_submodule(layer.path).get_parameter("weight")[neuron] = 0.0
