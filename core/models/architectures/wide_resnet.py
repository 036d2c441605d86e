"""WideResNet-d-k for small images, in the two key layouts in use.

`wrn-d-k`: conv1, block{s}.layer.{b}.{bn1, conv1, bn2, conv2[, convShortcut]}, bn1, fc; the shortcut of a block
that changes shape starts after its first activation. `wrn-d-k-meliketoy`: conv1, layer{s}.{b}.{bn1, conv1, bn2,
conv2[, shortcut.0]}, bn1, linear; convolutions have a bias and shortcuts start at the block's input.
"""

import re

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, relu

from core.models.architectures.base import Match, Shapes, SplitNetwork
from core.models.architectures.stages import block_counts

_PATTERN = re.compile(r"(?:wrn|wideresnet)-?(?P<depth>\d{2,4})-(?P<widen>\d{1,2})(?P<meliketoy>-meliketoy)?")


class _Block(nn.Module):
    """bn-relu-conv twice; `projection` names the shortcut's key where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int, *, meliketoy: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, 1 if meliketoy else stride, 1, bias=meliketoy)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, stride if meliketoy else 1, 1, bias=meliketoy)
        self.meliketoy, self.projection = meliketoy, ""
        if inputs == outputs and (stride == 1 or not meliketoy):
            return
        conv = nn.Conv2d(inputs, outputs, 1, stride, bias=meliketoy)
        self.projection = "shortcut" if meliketoy else "convShortcut"
        self.add_module(self.projection, nn.Sequential(conv) if meliketoy else conv)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H / stride, W / stride)."""
        out = relu(self.bn1(x))
        skip = x
        if self.projection:
            skip = self.get_submodule(self.projection)(x if self.meliketoy else out)
        return torch.add(self.conv2(relu(self.bn2(self.conv1(out)))), skip)


class _Group(nn.Module):
    """The `layer` level of the first layout's keys."""

    def __init__(self, layer: nn.Sequential) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Runs the blocks in order."""
        return self.layer(x)  # type: ignore[no-any-return]


class WideResNet(SplitNetwork):
    """Wide ResNet of depth 6n + 4.

    Args:
        depth: 6n + 4, with n blocks in each of three stages.
        widen: stages have 16, 32 and 64 times this many channels.
        meliketoy: the second key layout.
    """

    def __init__(self, depth: int, widen: int, num_classes: int, in_channels: int, *, meliketoy: bool) -> None:
        super().__init__()
        self.stage = "layer{}" if meliketoy else "block{}"
        self.head = "linear" if meliketoy else "fc"
        channels = 16
        self.conv1 = nn.Conv2d(in_channels, channels, 3, 1, 1, bias=meliketoy)
        for s in (1, 2, 3):
            blocks: list[nn.Module] = []
            for b in range((depth - 4) // 6):
                outputs = (16 << (s - 1)) * widen
                stride = 2 if s > 1 and b == 0 else 1
                blocks.append(_Block(channels, outputs, stride, meliketoy=meliketoy))
                channels = outputs
            layer = nn.Sequential(*blocks)
            self.add_module(self.stage.format(s), layer if meliketoy else _Group(layer))
        self.bn1 = nn.BatchNorm2d(channels)
        self.add_module(self.head, nn.Linear(channels, num_classes))

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 64 * widen)."""
        out = self.conv1(x)
        for s in (1, 2, 3):
            out = self.get_submodule(self.stage.format(s))(out)
        return adaptive_avg_pool2d(relu(self.bn1(out)), 1).flatten(1)

    def forward_head(self, features: Tensor) -> Tensor:
        """(B, D) -> (B, K)."""
        return self.get_submodule(self.head)(features)  # type: ignore[no-any-return]


class WideResNetFamily:
    """`wrn-<depth>-<widen>[-meliketoy]`."""

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """See `Family.build`."""
        match = _PATTERN.fullmatch(name)
        if match is None:
            return None
        depth, widen = int(match["depth"]), int(match["widen"])
        if depth < 10 or depth > 2000 or (depth - 4) % 6 or widen < 1:
            return None
        return WideResNet(depth, widen, num_classes, in_channels, meliketoy=match["meliketoy"] is not None)

    def infer(self, shapes: Shapes) -> Match | None:
        """See `Family.infer`."""
        meliketoy = "linear.weight" in shapes
        stem, head = shapes.get("conv1.weight"), shapes.get("linear.weight" if meliketoy else "fc.weight")
        blocks = block_counts(shapes, "layer{}.{}." if meliketoy else "block{}.layer.{}.")
        if stem is None or head is None or len(stem) != 4 or len(head) != 2:
            return None
        if len(blocks) != 3 or len(set(blocks)) != 1 or stem[0] != 16 or head[1] % 64:
            return None
        if meliketoy and "conv1.bias" not in shapes:
            return None
        name = f"wrn-{6 * blocks[0] + 4}-{head[1] // 64}" + ("-meliketoy" if meliketoy else "")
        return Match(name, head[0], stem[1])

    def twins(self, name: str) -> list[str]:
        """See `Family.twins`."""
        return []
