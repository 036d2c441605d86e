"""Any torchvision classifier: `torchvision:NAME[-noaux][@SIZE]`.

`-noaux`: without the auxiliary heads of GoogLeNet and Inception. `@SIZE`: image side of a vision transformer.
torchvision is imported on first use: it takes seconds, and the small families do without it.
"""

import re
from typing import Any

from torch import nn

_PATTERN = re.compile(r"(?P<name>[a-z0-9_]{1,64})(?P<noaux>-noaux)?(?:@(?P<size>\d{1,4}))?")
_WITH_AUX = frozenset({"googlenet", "inception_v3"})


def names() -> list[str]:
    """Every image classifier of the installed torchvision."""
    from torchvision import models

    return list(models.list_models(module=models))


class TorchvisionZoo:
    """Networks of torchvision, weights not downloaded."""

    prefix = "torchvision:"

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """See `Family.build`; `name` without the prefix."""
        match = _PATTERN.fullmatch(name)
        if match is None or match["name"] not in names():
            return None
        from torchvision import models

        options: dict[str, Any] = {}
        if match["name"] in _WITH_AUX:
            options = {"init_weights": False, "aux_logits": match["noaux"] is None}
        elif match["noaux"]:
            return None
        if match["size"]:
            if not match["name"].startswith("vit_"):
                return None
            options["image_size"] = int(match["size"])
        try:
            module: nn.Module = models.get_model(match["name"], weights=None, num_classes=num_classes, **options)
        except ValueError:  # a size that the patches do not divide
            return None
        if in_channels != 3:
            _replace_stem(module, in_channels)
        return module

    def variant(self, name: str, keys: list[str]) -> str:
        """`name` adapted to what the keys alone say."""
        has_aux = any(key.lower().startswith("aux") for key in keys)
        return f"{name}-noaux" if name in _WITH_AUX and not has_aux else name


def _replace_stem(module: nn.Module, in_channels: int) -> None:
    path, stem = next((path, layer) for path, layer in module.named_modules() if isinstance(layer, nn.Conv2d))
    parent, _, key = path.rpartition(".")
    conv = nn.Conv2d(
        in_channels,
        stem.out_channels,
        stem.kernel_size,  # type: ignore[arg-type]
        stem.stride,  # type: ignore[arg-type]
        stem.padding,  # type: ignore[arg-type]
        bias=stem.bias is not None,
    )
    setattr(module.get_submodule(parent), key, conv)
