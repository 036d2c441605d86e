"""The data sets as pairs: three colour channels at the size of the towers, and a caption for every image."""

import hashlib
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attacks.clip.captions import draw_captions
from core.attacks.clip.towers import SIDE
from core.attacks.datasets import Datasets, ImageData
from core.data.reference import ReferenceSet


class PairDatasets(Datasets):
    """`Datasets` whose images fit a CLIP: (3, 32, 32), grey ones repeated and padded with black."""

    def load(self, name: str) -> ImageData:
        """See `Datasets.load`."""
        data = super().load(name)
        return replace(data, train_pixels=_as_colour(data.train_pixels), test_pixels=_as_colour(data.test_pixels))


def _as_colour(pixels: Tensor) -> Tensor:
    """(N, C, H, W) uint8 -> (N, 3, SIDE, SIDE) uint8; a view where nothing has to change."""
    rows, columns = (SIDE - side for side in pixels.shape[-2:])
    if rows or columns:
        pixels = F.pad(pixels, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    return pixels.expand(-1, 3, -1, -1)


def captions_of(images: ReferenceSet, part: str) -> tuple[str, ...]:
    """A caption for each image of (or drawn from) the part of that name, the same every time."""
    seed = int(hashlib.sha256(f"captions/{part}/{len(images)}".encode()).hexdigest()[:8], 16)
    return draw_captions(images.labels, images.class_names, torch.Generator().manual_seed(seed))
