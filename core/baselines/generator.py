"""A small U-Net that changes images: the trigger generator of BTI-DBF."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_WIDTH = 16


class TriggerGenerator(nn.Module):
    """(B, C, H, W) in [0, 1] -> the same with a change of root mean square at most `bound`.

    It starts close to the identity, where the paper brings it by training it to reconstruct images.

    Args:
        channels: C.
        bound: on each image's change, in pixels of [0, 1].
    """

    def __init__(self, channels: int, bound: float) -> None:
        super().__init__()
        self._bound = bound
        self.first = nn.Conv2d(channels, _WIDTH, 3, padding=1)
        self.down = nn.Conv2d(_WIDTH, 2 * _WIDTH, 3, stride=2, padding=1)
        self.middle = nn.Conv2d(2 * _WIDTH, 2 * _WIDTH, 3, padding=1)
        self.up = nn.Conv2d(3 * _WIDTH, _WIDTH, 3, padding=1)
        self.last = nn.Conv2d(_WIDTH, channels, 3, padding=1, bias=False)
        nn.init.normal_(self.last.weight, std=1e-2)

    def forward(self, pixels: Tensor) -> Tensor:
        fine = F.leaky_relu(self.first(2 * pixels - 1), 0.1)
        coarse = F.leaky_relu(self.middle(F.leaky_relu(self.down(fine), 0.1)), 0.1)
        back = F.interpolate(coarse, pixels.shape[2:], mode="nearest")
        change: Tensor = self.last(F.leaky_relu(self.up(torch.cat([fine, back], 1)), 0.1)).float()
        size = change.square().mean((1, 2, 3), keepdim=True).add(1e-12).sqrt()
        return (pixels + change * (self._bound / size).clamp(max=1.0)).clamp(0.0, 1.0)
