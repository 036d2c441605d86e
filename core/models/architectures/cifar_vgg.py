"""VGG for 32x32 images: `features.N` and a `classifier` of one layer or a perceptron.

Names: `cifar_vgg<11|13|16|19>[_bn][-w<width>][-h<key>:<width>...<key>]`. `-w16` is a narrow one: 16 channels after the
first convolution instead of 64, and the others in proportion. Without a head suffix `classifier` is one linear layer.
`-h1:512.4:512.6` is a perceptron whose linear layers are `classifier.1`, `.4` and `.6` with 512 hidden units each;
what lies between them is ReLU (dropout is the identity here).
"""

import re

from torch import Tensor, nn

from core.models.architectures.base import Match, Shapes, SplitNetwork

_PLANS: dict[str, tuple[int, ...]] = {  # 0 is a max-pooling
    "11": (64, 0, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    "13": (64, 64, 0, 128, 128, 0, 256, 256, 0, 512, 512, 0, 512, 512, 0),
    "16": (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0),
    "19": (64, 64, 0, 128, 128, 0, *(256,) * 4, 0, *(512,) * 4, 0, *(512,) * 4, 0),
}
_WIDTH, _NARROWEST = 64, 8
_PATTERN = re.compile(r"cifar_vgg(?P<depth>11|13|16|19)(?P<bn>_bn)?(?:-w(?P<width>\d{1,4}))?(?:-h(?P<head>[\d.:]+))?")
_LINEAR = re.compile(r"classifier\.(\d{1,2})\.weight")


def _plan(depth: str, width: int) -> tuple[int, ...]:
    return tuple(channels * width // _WIDTH for channels in _PLANS[depth])


def _features(plan: tuple[int, ...], in_channels: int, *, bn: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = in_channels
    for width in plan:
        if width == 0:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers.append(nn.Conv2d(channels, width, 3, padding=1))
        if bn:
            layers.append(nn.BatchNorm2d(width))
        layers.append(nn.ReLU())
        channels = width
    return nn.Sequential(*layers)


class CifarVGG(SplitNetwork):
    """VGG with adaptive average pooling to one pixel; images of at least 32 pixels.

    Args:
        depth: "11", "13", "16" or "19".
        width: channels after the first convolution.
        bn: batch normalisation after every convolution.
        head: key in `classifier` -> width of every hidden linear layer, then the key of the last one -> 0.
    """

    def __init__(
        self, depth: str, num_classes: int, in_channels: int, *, width: int, bn: bool, head: dict[int, int]
    ) -> None:
        super().__init__()
        plan = _plan(depth, width)
        self.features = _features(plan, in_channels, bn=bn)
        self.pool = nn.AdaptiveAvgPool2d(1)
        if not head:
            self.classifier: nn.Module = nn.Linear(max(plan), num_classes)
            return
        layers: list[nn.Module] = []
        inputs = max(plan)
        for index, hidden in head.items():
            gap = index - len(layers)
            if layers and gap:  # the activation comes first, then dropout or nothing
                layers.append(nn.ReLU())
                gap -= 1
            layers += [nn.Identity() for _ in range(gap)]
            layers.append(nn.Linear(inputs, hidden or num_classes))
            inputs = hidden
        self.classifier = nn.Sequential(*layers)

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        out = self.pool(self.features(x)).flatten(1)
        if isinstance(self.classifier, nn.Sequential):
            out = self.classifier[:-1](out)
        return out  # type: ignore[no-any-return]

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        last = self.classifier[-1] if isinstance(self.classifier, nn.Sequential) else self.classifier
        return last(features)  # type: ignore[no-any-return]


class CifarVGGFamily:
    """See the module's text for the names."""

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """See `Family.build`."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            return None
        head: dict[int, int] = {}
        if match["head"]:
            for part in match["head"].split("."):
                index, _, width = part.partition(":")
                if not index.isdecimal() or (width and not width.isdecimal()) or int(index) <= max(head, default=-1):
                    return None
                head[int(index)] = int(width or 0)
            hidden = list(head.values())
            if max(head) > 32 or hidden[-1] != 0 or not all(0 < width <= 8192 for width in hidden[:-1]):
                return None
        width, bn = int(match["width"] or _WIDTH), match["bn"] is not None
        if not _NARROWEST <= width <= _WIDTH:
            return None
        return CifarVGG(match["depth"], num_classes, in_channels, width=width, bn=bn, head=head)

    def infer(self, shapes: Shapes) -> Match | None:
        """See `Family.infer`."""
        convs = tuple(shape for key, shape in shapes.items() if key.startswith("features.") and len(shape) == 4)
        if not convs:
            return None
        widths = tuple(shape[0] for shape in convs)
        depth = next((key for key in _PLANS if tuple(w for w in _plan(key, widths[0]) if w) == widths), None)
        if depth is None:
            return None
        narrow = f"-w{widths[0]}" if widths[0] != _WIDTH else ""
        bn = "_bn" if any(key.endswith("running_mean") for key in shapes) else ""
        name = f"cifar_vgg{depth}{bn}{narrow}"
        if (single := shapes.get("classifier.weight")) is not None:
            return Match(name, single[0], convs[0][1])
        linear = {int(m[1]): shape for key, shape in shapes.items() if (m := _LINEAR.fullmatch(key))}
        if not linear or any(len(shape) != 2 for shape in linear.values()) or linear[min(linear)][1] != max(widths):
            return None
        *hidden, last = sorted(linear)
        parts = [f"{index}:{linear[index][0]}" for index in hidden] + [str(last)]
        return Match(f"{name}-h{'.'.join(parts)}", linear[last][0], convs[0][1])

    def twins(self, name: str) -> list[str]:
        """See `Family.twins`."""
        return []
