"""Cheap variations of clean images: more signal from the same few."""

import torch
import torch.nn.functional as F
from torch import Tensor

#: Largest shift, as a share of the shorter side.
_SHIFT = 1 / 16
#: Mixing: on how many of the images, and how much of the other image at most.
_MIXED, _SHARE = 0.7, 0.3


def shifted(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) moved by up to 1/16 of the side, one draw for the whole batch; borders are repeated."""
    height, width = pixels.shape[-2:]
    most = max(1, round(_SHIFT * min(height, width)))
    down, right = torch.randint(0, 2 * most + 1, (2,), generator=generator).tolist()
    padded = F.pad(pixels, (most,) * 4, mode="replicate")
    return padded[..., down : down + height, right : right + width]


def mixed(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) with a little of another image of the batch in most of them; the own image dominates."""
    count = len(pixels)
    other = pixels[torch.randperm(count, generator=generator).to(pixels.device)]
    share = _SHARE * torch.rand((count, 1, 1, 1), generator=generator)
    share = share * (torch.rand((count, 1, 1, 1), generator=generator) < _MIXED)
    return torch.lerp(pixels, other, share.to(pixels.device))
