"""Pictures of what the inversion found, for the person who has to decide."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.data.reference import ReferenceSet
from core.inversion.result import InversionResult

_TRIGGERS, _IMAGES = 3, 6
_SIDE = 96  # pixels of one tile; small images are enlarged without smoothing


@torch.no_grad()
def draw_triggers(inversion: InversionResult, reference: ReferenceSet, path: Path) -> None:
    """Write a PNG: one row of clean images, then for each of the most suspicious triggers a row with it applied."""
    step = max(1, len(reference) // _IMAGES)
    clean = reference.pixels[::step][:_IMAGES]
    rows = [_row(clean)]
    for trigger in inversion.triggers[:_TRIGGERS]:
        rows.append(_row(trigger.operator.apply(clean)))
    Image.fromarray(np.concatenate(rows, axis=0)).save(path, optimize=True)


def _row(pixels: Tensor) -> np.ndarray:
    """(B, C, H, W) in [0, 1] -> (side, B * side, 3) uint8."""
    enlarged = torch.nn.functional.interpolate(pixels.cpu(), (_SIDE, _SIDE), mode="nearest")
    if enlarged.shape[1] == 1:
        enlarged = enlarged.expand(-1, 3, -1, -1)
    tiles = (enlarged * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    return np.concatenate(list(tiles), axis=1)
