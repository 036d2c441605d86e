"""Post-activation ResNets for small images.

Layouts: conv1, bn1, layer{s}.{b}.{conv1, bn1, conv2, bn2[, conv3, bn3]}, then either the one of the CIFAR codes
(shortcut.{0,1}, linear) or, with the suffix `-fc`, torchvision's (downsample.{0,1}, fc). Shortcuts are option B
(1x1 convolutions) or option A (subsample and pad with zeros: no weights).
"""

import re

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, pad, relu

from core.models.architectures.base import Match, Shapes, SplitNetwork
from core.models.architectures.stages import block_counts, dotted, is_buildable, parse_dotted

_SMALL = (16, 32, 64)
_LARGE = (64, 128, 256, 512)
_NAMED: dict[str, tuple[tuple[int, ...], tuple[int, ...], bool]] = {
    **{f"resnet{6 * n + 2}": ((n, n, n), _SMALL, False) for n in (3, 5, 7, 9, 18, 200)},
    "cifar_resnet18": ((2, 2, 2, 2), _LARGE, False),
    "cifar_resnet34": ((3, 4, 6, 3), _LARGE, False),
    "cifar_resnet50": ((3, 4, 6, 3), _LARGE, True),
    "cifar_resnet101": ((3, 4, 23, 3), _LARGE, True),
    "cifar_resnet152": ((3, 8, 36, 3), _LARGE, True),
}
_PATTERN = re.compile(
    r"(?:(?P<named>(?:cifar_)?resnet\d+)|cifar_resnet-b(?P<blocks>[\d.]+)-w(?P<widths>[\d.]+)(?P<bottleneck>-bottleneck)?)"
    r"(?P<b>-B)?(?P<fc>-fc(?P<maxpool>-maxpool)?)?"
)


class _PadShortcut(nn.Module):
    """Option A: every second pixel, new channels are zero, half of them in front."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = outputs - inputs, stride

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        front = self.extra // 2
        return pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, front, self.extra - front))


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int, *, bottleneck: bool, shortcut: str) -> None:
        super().__init__()
        outputs = 4 * width if bottleneck else width
        if bottleneck:
            plan = [(inputs, width, 1, 1), (width, width, 3, stride), (width, outputs, 1, 1)]
        else:
            plan = [(inputs, width, 3, stride), (width, outputs, 3, 1)]
        self.depth, self.skip = len(plan), ""
        for i, (before, after, kernel, step) in enumerate(plan, start=1):
            self.add_module(f"conv{i}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            self.add_module(f"bn{i}", nn.BatchNorm2d(after))
        if stride == 1 and inputs == outputs:
            return
        if shortcut == "pad":
            self.skip = "shortcut"
            self.add_module(self.skip, _PadShortcut(inputs, outputs, stride))
        else:
            self.skip = shortcut
            conv = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.add_module(shortcut, nn.Sequential(conv, nn.BatchNorm2d(outputs)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        out = x
        for i in range(1, self.depth + 1):
            out = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(out))
            if i < self.depth:
                out = relu(out)
        return relu(torch.add(out, self.get_submodule(self.skip)(x) if self.skip else x))


class CifarResNet(SplitNetwork):
    """ResNet with a 3x3 stem of stride 1.

    Args:
        blocks: blocks per stage; every stage but the first halves the resolution.
        widths: channels per stage; the stem has as many as the first stage.
        bottleneck: 1x1-3x3-1x1 blocks with four times the width at their end.
        shortcut: "pad" (option A), or the key of the convolutional ones: "shortcut" or "downsample".
        head: key of the last layer: "linear" or "fc".
        maxpool: torchvision's pooling after the stem was left in.
    """

    def __init__(
        self,
        blocks: tuple[int, ...],
        widths: tuple[int, ...],
        num_classes: int,
        in_channels: int,
        *,
        bottleneck: bool,
        shortcut: str,
        head: str,
        maxpool: bool = False,
    ) -> None:
        super().__init__()
        self.stages, self.head = len(blocks), head
        channels = widths[0]
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, 1) if maxpool else nn.Identity()
        for s, (count, width) in enumerate(zip(blocks, widths, strict=True), start=1):
            layers: list[nn.Module] = []
            for b in range(count):
                stride = 2 if s > 1 and b == 0 else 1
                layers.append(_Block(channels, width, stride, bottleneck=bottleneck, shortcut=shortcut))
                channels = 4 * width if bottleneck else width
            self.add_module(f"layer{s}", nn.Sequential(*layers))
        self.add_module(head, nn.Linear(channels, num_classes))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        out = self.maxpool(relu(self.bn1(self.conv1(x))))
        for s in range(1, self.stages + 1):
            out = self.get_submodule(f"layer{s}")(out)
        return adaptive_avg_pool2d(out, 1).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.get_submodule(self.head)(features)  # type: ignore[no-any-return]


class CifarResNetFamily:
    """`resnet20|...|1202[-B]`, `cifar_resnet18|...|152` and `cifar_resnet-b<blocks>-w<widths>[-bottleneck][-B]`.

    `-B` (implied by the large ones): convolutional shortcuts. `-fc`: torchvision's key names; `-fc-maxpool`: with its
    pooling after the stem, which keys do not show.
    """

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """See `Family.build`."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            return None
        if match["named"]:
            if match["named"] not in _NAMED:
                return None
            blocks, widths, bottleneck = _NAMED[match["named"]]
        else:
            blocks, widths = parse_dotted(match["blocks"]), parse_dotted(match["widths"])
            bottleneck = match["bottleneck"] is not None
            if not is_buildable(blocks, widths):
                return None
        shortcut = "pad"
        if match["b"] or match["fc"] or (match["named"] or "").startswith("cifar_"):
            shortcut = "downsample" if match["fc"] else "shortcut"
        head = "fc" if match["fc"] else "linear"
        return CifarResNet(
            blocks,
            widths,
            num_classes,
            in_channels,
            bottleneck=bottleneck,
            shortcut=shortcut,
            head=head,
            maxpool=match["maxpool"] is not None,
        )

    def infer(self, shapes: Shapes) -> Match | None:
        """See `Family.infer`."""
        head_key = "fc" if "fc.weight" in shapes else "linear"
        stem, head = shapes.get("conv1.weight"), shapes.get(f"{head_key}.weight")
        blocks = block_counts(shapes, "layer{}.{}.")
        if stem is None or head is None or not blocks or "bn1.weight" not in shapes or "conv1.bias" in shapes:
            return None
        if len(stem) != 4 or stem[2:] != (3, 3) or len(head) != 2:
            return None
        convs = [shapes.get(f"layer{s}.0.conv1.weight") for s in range(1, len(blocks) + 1)]
        if any(shape is None for shape in convs):
            return None
        widths = tuple(shape[0] for shape in convs if shape)
        kind = (blocks, widths, "layer1.0.conv3.weight" in shapes)
        convolutional = any(".shortcut.0." in key or ".downsample.0." in key for key in shapes)
        name = next((key for key, value in _NAMED.items() if value == kind), "")
        if not name:
            name = f"cifar_resnet-b{dotted(blocks)}-w{dotted(widths)}" + ("-bottleneck" if kind[2] else "")
        if head_key == "fc":
            name += "-fc"
        elif convolutional and not (name.startswith("cifar_resnet") and name in _NAMED):
            name += "-B"
        return Match(name, head[0], stem[1])

    def twins(self, name: str) -> list[str]:
        """See `Family.twins`."""
        return [f"{name}-maxpool"] if name.endswith("-fc") else []
