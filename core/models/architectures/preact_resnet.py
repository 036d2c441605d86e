"""Pre-activation ResNets for small images, keys as in the backdoor literature.

Layout: conv1, layer{s}.{b}.{bn1, conv1, bn2, conv2[, bn3, conv3][, shortcut.0]}, [bn], linear.
There is no normalisation before the pooling unless the name ends in `-bn`.
"""

import re
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from core.models.architectures.base import Match, Shapes, SplitNetwork
from core.models.architectures.stages import block_counts, dotted, is_buildable, parse_dotted

_WIDTHS: tuple[int, ...] = (64, 128, 256, 512)
_NAMED: dict[str, tuple[tuple[int, ...], bool]] = {
    "preactresnet18": ((2, 2, 2, 2), False),
    "preactresnet34": ((3, 4, 6, 3), False),
    "preactresnet50": ((3, 4, 6, 3), True),
    "preactresnet101": ((3, 4, 23, 3), True),
    "preactresnet152": ((3, 8, 36, 3), True),
}
_PATTERN = re.compile(r"preactresnet-b(?P<blocks>[\d.]+)-w(?P<widths>[\d.]+)(?P<bottleneck>-bottleneck)?")


class _Block(nn.Module):
    """bn-relu-conv, two or three times; the shortcut starts after the first activation."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        widths = (inputs, width, width, outputs) if bottleneck else (inputs, width, width)
        kernels, strides = ((1, 3, 1), (1, stride, 1)) if bottleneck else ((3, 3), (stride, 1))
        self.depth = len(kernels)
        for i, (before, after) in enumerate(pairwise(widths), start=1):
            kernel = kernels[i - 1]
            conv = nn.Conv2d(before, after, kernel, strides[i - 1], kernel // 2, bias=False)
            self.add_module(f"bn{i}", nn.BatchNorm2d(before))
            self.add_module(f"conv{i}", conv)
        self.shortcut: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        out = relu(self.get_submodule("bn1")(x))
        skip = x if self.shortcut is None else self.shortcut(out)
        out = self.get_submodule("conv1")(out)
        for i in range(2, self.depth + 1):
            out = self.get_submodule(f"conv{i}")(relu(self.get_submodule(f"bn{i}")(out)))
        return torch.add(out, skip)


class PreActResNet(SplitNetwork):
    """Pre-activation ResNet with a 3x3 stem.

    Args:
        blocks: blocks per stage; every stage but the first halves the resolution.
        widths: channels per stage; the stem has as many as the first stage.
        bottleneck: 1x1-3x3-1x1 blocks with four times the width at their ends.
        final_bn: bn and relu before the pooling.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        *,
        bottleneck: bool = False,
        final_bn: bool = False,
    ) -> None:
        super().__init__()
        self.stages = len(blocks)
        channels = widths[0]
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        for s, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            layers: list[nn.Module] = []
            for b in range(count):
                stride = 2 if s > 1 and b == 0 else 1
                layers.append(_Block(channels, width, stride, bottleneck))
                channels = 4 * width if bottleneck else width
            self.add_module(f"layer{s}", nn.Sequential(*layers))
        self.bn = nn.BatchNorm2d(channels) if final_bn else None
        self.linear = nn.Linear(channels, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        out = self.conv1(x)
        for s in range(1, self.stages + 1):
            out = self.get_submodule(f"layer{s}")(out)
        if self.bn is not None:
            out = relu(self.bn(out))
        return adaptive_avg_pool2d(out, 1).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.linear(features)  # type: ignore[no-any-return]


class PreActResNetFamily:
    """`preactresnet18|34|50|101|152`, `preactresnet-b<blocks>-w<widths>[-bottleneck]`; `-bn` may follow."""

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """See `Family.build`."""
        base = name.removesuffix("-bn")
        if base in _NAMED:
            (blocks, bottleneck), widths = _NAMED[base], _WIDTHS
        elif match := _PATTERN.fullmatch(base):
            blocks, widths = parse_dotted(match["blocks"]), parse_dotted(match["widths"])
            bottleneck = match["bottleneck"] is not None
            if not is_buildable(blocks, widths):
                return None
        else:
            return None
        return PreActResNet(
            blocks, widths, num_classes, in_channels, bottleneck=bottleneck, final_bn=name.endswith("-bn")
        )

    def infer(self, shapes: Shapes) -> Match | None:
        """See `Family.infer`."""
        stem, head = shapes.get("conv1.weight"), shapes.get("linear.weight")
        blocks = block_counts(shapes, "layer{}.{}.")
        if stem is None or head is None or not blocks or "bn1.weight" in shapes or len(stem) != 4 or len(head) != 2:
            return None
        bottleneck = "layer1.0.conv3.weight" in shapes
        convs = [shapes.get(f"layer{s}.0.conv1.weight") for s in range(1, len(blocks) + 1)]
        if any(shape is None for shape in convs):
            return None
        widths = tuple(shape[0] for shape in convs if shape)
        kind = (blocks, bottleneck)
        name = next((key for key, value in _NAMED.items() if value == kind and widths == _WIDTHS), "")
        if not name:
            name = f"preactresnet-b{dotted(blocks)}-w{dotted(widths)}" + ("-bottleneck" if bottleneck else "")
        return Match(name + ("-bn" if "bn.weight" in shapes else ""), head[0], stem[1])

    def twins(self, name: str) -> list[str]:
        """See `Family.twins`."""
        return []
