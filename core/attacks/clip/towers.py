"""The networks: open_clip's own classes in sizes that one core trains in minutes."""

from collections.abc import Mapping
from typing import Any

import torch
from open_clip import CLIP
from torch import Tensor

from core.config import Preprocess

#: Side of an image in pixels.
SIDE = 32
#: How images of all data sets are normalised.
PREPROCESS = Preprocess((0.5, 0.5, 0.5), (0.25, 0.25, 0.25), (SIDE, SIDE))

_TEXT = {"width": 64, "heads": 2, "layers": 2}
#: `vision_cfg` of each image tower.
TOWERS: Mapping[str, Mapping[str, Any]] = {
    "resnet": {"layers": [1, 1, 1, 1], "width": 16, "head_width": 64, "image_size": SIDE},
    "vit": {"layers": 4, "width": 96, "head_width": 32, "patch_size": 8, "image_size": SIDE, "mlp_ratio": 3.0},
}
EMBEDDING = 128


def model_config(tower: str, vocabulary: int, context: int) -> dict[str, Any]:
    """`model_cfg` of open_clip_config.json.

    Args:
        tower: a key of TOWERS.
        vocabulary: number of tokens.
        context: tokens of a text.
    """
    return {
        "embed_dim": EMBEDDING,
        "vision_cfg": dict(TOWERS[tower]),
        # any name that is not empty: with a local folder open_clip reads the tokenizer from there
        "text_cfg": {**_TEXT, "context_length": context, "vocab_size": vocabulary, "hf_tokenizer_name": "local"},
    }


def build_network(config: Mapping[str, Any], seed: int) -> CLIP:
    """An untrained network, its weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLIP(**config)


def normalised(pixels: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> what the towers take, by PREPROCESS."""
    return (pixels - PREPROCESS.mean[0]) / PREPROCESS.std[0]
