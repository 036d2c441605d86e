"""Networks by canonical name."""

import torch
from torch import nn

from core.errors import UnsupportedError
from core.models.architectures.base import Family
from core.models.architectures.building import on_meta
from core.models.architectures.cifar_resnet import CifarResNetFamily
from core.models.architectures.cifar_vgg import CifarVGGFamily
from core.models.architectures.preact_resnet import PreActResNetFamily
from core.models.architectures.small_timm import SmallTimmFamily
from core.models.architectures.timm_zoo import TimmZoo
from core.models.architectures.torchvision_zoo import TorchvisionZoo
from core.models.architectures.wide_resnet import WideResNetFamily
from core.plugins import Registry

#: Our own networks; their names are disjoint.
FAMILIES: Registry[Family] = Registry("architecture family")
FAMILIES.register("preact_resnet")(PreActResNetFamily())
FAMILIES.register("cifar_resnet")(CifarResNetFamily())
FAMILIES.register("wide_resnet")(WideResNetFamily())
FAMILIES.register("cifar_vgg")(CifarVGGFamily())
FAMILIES.register("small_timm")(SmallTimmFamily())

TORCHVISION = TorchvisionZoo()
TIMM = TimmZoo()


def build(name: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """The network called `name` with fresh weights, in training mode.

    Args:
        name: canonical, such as "preactresnet18", "preactresnet-b1.1.1-w16.32.64", "wrn-16-1", "cifar_vgg11_bn",
            "torchvision:resnet18", "timm:convnext_tiny"; a bare name of torchvision or timm will do.
        num_classes: K >= 2.
        in_channels: 1 or 3.

    Raises:
        UnsupportedError: `unsupported_architecture`: nothing has this name.
    """
    for family in FAMILIES:
        module = FAMILIES.get(family).build(name, num_classes, in_channels)
        if module is not None:
            return module
    for zoo in (TORCHVISION, TIMM):
        if ":" not in name or name.startswith(zoo.prefix):
            module = zoo.build(name.removeprefix(zoo.prefix), num_classes, in_channels)
            if module is not None:
                return module
    raise UnsupportedError(
        "unsupported_architecture",
        f"No architecture is called {name[:80]!r}.",
        "Name one like preactresnet18, resnet20, wrn-16-1, cifar_vgg16_bn, torchvision:NAME, timm:NAME, or auto.",
    )


def is_ours(name: str) -> bool:
    """Whether `name` is one of our own families'."""
    with torch.device("meta"):
        return any(FAMILIES.get(family).build(name, 2, 3) is not None for family in FAMILIES)


def build_meta(name: str, num_classes: int, in_channels: int = 3) -> nn.Module:
    """The same without memory for weights: for shapes and strict key checks."""
    return on_meta(lambda: build(name, num_classes, in_channels))
