"""One forward pass that gives penultimate features and logits, for any classifier."""

from collections.abc import Callable

from torch import Tensor, nn

from core.models.architectures.base import SplitNetwork

#: (B, C, H, W) -> (logits (B, K), features (B, D)).
Split = Callable[[nn.Module, Tensor], tuple[Tensor, Tensor]]


def split_for(module: nn.Module, num_classes: int) -> Split:
    """How to take `module` apart.

    Raises:
        ValueError: it has no last layer with `num_classes` outputs.
    """
    if isinstance(module, SplitNetwork):
        return _split_network
    head = head_path(module, num_classes)

    def split(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
        seen: list[Tensor] = []
        layer = network.get_submodule(head)
        # Registered for this one call: a hook that stayed would travel with copies of the network.
        handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        try:
            logits = network(x)
        finally:
            handle.remove()
        return logits, _pooled(seen[-1])

    return split


def _split_network(network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    assert isinstance(network, SplitNetwork)
    features = network.forward_features(x)
    return network.forward_head(features), features


def head_path(module: nn.Module, num_classes: int) -> str:
    """Path of the last linear layer (or 1x1 convolution) with `num_classes` outputs.

    Raises:
        ValueError: there is none.
    """
    found = ""
    for path, layer in module.named_modules():
        linear = isinstance(layer, nn.Linear) and layer.out_features == num_classes
        pointwise = isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.out_channels == num_classes
        if linear or pointwise:
            found = path
    if not found:
        raise ValueError(f"no layer with {num_classes} outputs")
    return found


def _pooled(features: Tensor) -> Tensor:
    """(B, D), (B, D, H, W) or (B, N, D) -> (B, D)."""
    if features.dim() == 4:
        return features.mean((2, 3))
    return features.mean(1) if features.dim() == 3 else features
