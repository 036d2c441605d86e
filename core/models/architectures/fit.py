"""Does a checkpoint fit a named network? By keys and shapes alone, without memory for weights."""

import math

from torch import nn

from core.models.architectures.base import Match, Shapes
from core.models.architectures.misfit import Misfit, compare
from core.models.architectures.registry import build_meta

#: A class count nobody has: layers with so many outputs are heads.
_PROBE = 977
_SIDE = 32
#: Unlike convolutions, poolings fail on maps smaller than their window.
_MANY_POOLS = 3


def fit(name: str, shapes: Shapes) -> Match | Misfit:
    """Builds `name`, reads classes and channels off the checkpoint, and compares.

    Raises:
        UnsupportedError: there is no such network.
    """
    module = build_meta(name, _PROBE)
    num_classes, in_channels = _read_classes(module, shapes), _read_channels(module, shapes)
    if num_classes is None or in_channels is None:
        return compare(name, _shapes(module, _PROBE), shapes)
    if in_channels != 3:
        module = build_meta(name, _PROBE, in_channels)
    misfit = compare(name, _shapes(module, num_classes), shapes)
    if misfit.differing and (resized := _resized(name, module, shapes)) is not None:
        name, module = resized, build_meta(resized, _PROBE, in_channels)
        misfit = compare(name, _shapes(module, num_classes), shapes)
    if misfit.distance:
        return misfit
    return describe(name, module, num_classes, in_channels)


def _shapes(module: nn.Module, num_classes: int) -> Shapes:
    """Shapes of a network built with the class count nobody has, as if built with `num_classes`."""
    return {
        key: tuple(num_classes if side == _PROBE else side for side in tensor.shape)
        for key, tensor in module.state_dict().items()
    }


def describe(name: str, module: nn.Module, num_classes: int, in_channels: int) -> Match:
    """A match with what the network says about its input size."""
    size, default = _sizes(module)
    stem = _stem(module)
    small = stem is not None and stem[1].stride in (1, (1, 1))
    pools = sum(isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) for layer in module.modules())
    least = 32 if pools >= _MANY_POOLS else 16
    return Match(name, num_classes, in_channels, size, default, "cifar" if small else "imagenet", least)


def _stem(module: nn.Module) -> tuple[str, nn.Conv2d] | None:
    return next(((path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d)), None)


def _read_classes(probe: nn.Module, shapes: Shapes) -> int | None:
    heads = [key for key, tensor in probe.state_dict().items() if tensor.dim() and tensor.shape[0] == _PROBE]
    return next((shapes[key][0] for key in heads if shapes.get(key)), None)


def _read_channels(probe: nn.Module, shapes: Shapes) -> int | None:
    stem = _stem(probe)
    if stem is None:
        return 3  # patches cut by a linear layer: the comparison decides
    shape = shapes.get(f"{stem[0]}.weight", ())
    return shape[1] * stem[1].groups if len(shape) == 4 else None


def _resized(name: str, module: nn.Module, shapes: Shapes) -> str | None:
    """`name@SIZE[/PATCH]` if the table of positions shows another image size; None otherwise."""
    stem = _stem(module)
    key = next((k for k in ("pos_embed", "encoder.pos_embedding") if k in shapes), None)
    own = module.state_dict().get(key or "")
    if stem is None or key is None or own is None or "@" in name or len(shapes[key]) != 3 or own.dim() != 3:
        return None
    own_patch, own_size = stem[1].kernel_size[0], _sizes(module)[0]
    patch = shapes.get(f"{stem[0]}.weight", (0, 0, own_patch, 0))[2]
    if own_size is None:
        return None
    extra = own.shape[1] - (own_size[0] // own_patch) ** 2  # class and register tokens
    side = math.isqrt(max(shapes[key][1] - extra, 0))
    if side == 0 or side * side != shapes[key][1] - extra:
        return None
    return f"{name}@{side * patch}" + (f"/{patch}" if patch != own_patch else "")


def _sizes(module: nn.Module) -> tuple[tuple[int, int] | None, tuple[int, int]]:
    """(size the weights demand or None, size by default)."""
    embed = getattr(module, "patch_embed", None)
    side = getattr(module, "image_size", None) or getattr(embed, "img_size", None)
    if isinstance(side, int):
        side = (side, side)
    config = getattr(module, "pretrained_cfg", None)
    if isinstance(side, tuple | list) and len(side) == 2:
        height, width = int(side[0]), int(side[1])
        return (height, width), (height, width)
    if isinstance(config, dict) and len(config.get("input_size") or ()) == 3:
        _, height, width = config["input_size"]
        return ((height, width) if config.get("fixed_input_size") else None), (height, width)
    if type(module).__module__.startswith("torchvision."):
        side = 299 if type(module).__name__ == "Inception3" else 224
        return None, (side, side)
    return None, (_SIDE, _SIDE)
