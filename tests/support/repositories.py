"""Small networks of transformers and timm, and repositories with them."""

from typing import Any

import timm
import torch
import transformers
from torch import nn

from core.models.architectures.transformers_table import ENTRIES

#: A few thousand weights each, for images of 32 pixels (Swin's and others' own limits).
_VIT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
_SWIN = {"image_size": 32, "patch_size": 2, "embed_dim": 16, "depths": [1, 2], "num_heads": [1, 2], "window_size": 4}
_STAGES = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1]}
_PYRAMID = {**_STAGES, "num_attention_heads": [1, 2, 2, 4]}
#: model_type -> fields of its configuration.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    "beit": {**_VIT, "use_relative_position_bias": True},
    "bit": {**_STAGES, "embedding_size": 8, "num_groups": 4},
    "convnext": {**_STAGES, "patch_size": 2},
    "convnextv2": {**_STAGES, "patch_size": 2},
    "cvt": {"embed_dim": [16, 32, 48], "num_heads": [1, 2, 3], "depth": [1, 2, 3]},
    "data2vec-vision": {**_VIT, "use_relative_position_bias": True},
    "deit": _VIT,
    "dinov2": {**_VIT, "intermediate_size": None, "mlp_ratio": 2},
    "dinov2_with_registers": {**_VIT, "intermediate_size": None, "mlp_ratio": 2},
    "efficientnet": {
        "image_size": 32,
        "width_coefficient": 0.25,
        "depth_coefficient": 0.25,
        "hidden_dim": 320,
        "num_block_repeats": [1, 1, 1, 1, 1, 1, 1],
    },
    "focalnet": {**_STAGES, "image_size": 32, "patch_size": 2, "embed_dim": 8, "hidden_sizes": [16, 24, 32, 32]},
    "hgnet_v2": {
        "embedding_size": 8,
        "stem_channels": [3, 8, 8],
        "hidden_sizes": [16, 24, 32, 48],
        "depths": [1, 1, 1, 1],
        "stage_in_channels": [8, 16, 24, 32],
        "stage_mid_channels": [8, 8, 8, 8],
        "stage_out_channels": [16, 24, 32, 48],
        "stage_num_blocks": [1, 1, 1, 1],
        "stage_numb_of_layers": [2, 2, 2, 2],
    },
    "hiera": {
        "image_size": [32, 32],
        "embed_dim": 16,
        "depths": [1, 1, 2],
        "num_heads": [1, 2, 4],
        "num_query_pool": 2,
        "masked_unit_size": [4, 4],
        "masked_unit_attention": [True, False, False],
    },
    "ijepa": _VIT,
    "levit": {
        "image_size": 64,
        "hidden_sizes": [32, 48, 64],
        "num_attention_heads": [2, 3, 4],
        "depths": [1, 1, 1],
        "key_dim": [8, 8, 8],
    },
    "mobilenet_v1": {"image_size": 32, "depth_multiplier": 0.25},
    "mobilenet_v2": {"image_size": 32, "depth_multiplier": 0.35},
    "mobilevit": {
        "image_size": 32,
        "hidden_sizes": [16, 24, 32],
        "neck_hidden_sizes": [8, 8, 16, 16, 24, 32, 48],
        "num_attention_heads": 2,
        "expand_ratio": 2.0,
    },
    "mobilevitv2": {"image_size": 32, "width_multiplier": 0.25, "base_attn_unit_dims": [32, 64, 64]},
    "poolformer": _STAGES,
    "pvt": {**_PYRAMID, "image_size": 32},
    "pvt_v2": {**_PYRAMID, "image_size": 32},
    "regnet": {**_STAGES, "embedding_size": 8, "groups_width": 8},
    "resnet": {**_STAGES, "embedding_size": 8},
    "segformer": _PYRAMID,
    "swiftformer": {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [8, 16, 24, 32]},
    "swin": _SWIN,
    "swinv2": _SWIN,
    "vit": _VIT,
    "vit_msn": _VIT,
}
#: Name -> arguments.
TIMM: dict[str, dict[str, Any]] = {
    "vit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "deit_tiny_patch16_224": {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2},
    "swin_tiny_patch4_window7_224": {
        "img_size": 32,
        "patch_size": 2,
        "window_size": 4,
        "embed_dim": 16,
        "depths": [1, 1],
        "num_heads": [1, 2],
    },
    "convnext_atto": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32], "patch_size": 2},
    "convnextv2_atto": {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]},
    "resnet18": {"channels": [8, 16, 24, 32]},
    "resnet10t": {},
    "mobilenetv2_035": {},
    "mobilenetv3_small_050": {},
    "efficientnet_lite0": {},
    "regnetx_002": {},
    "test_vit": {},
    "test_resnet": {},
    "test_convnext": {},
    "test_efficientnet": {},
}


def transformers_network(kind: str, classes: int, class_name: str = "", seed: int = 0, **fields: Any) -> Any:
    """A small classifier of transformers in evaluation mode; `fields` go over the small ones."""
    entry = ENTRIES[kind]
    options = {key: value for key, value in (TRANSFORMERS[kind] | fields).items() if value is not None}
    torch.manual_seed(seed)
    config = getattr(transformers, entry.config)(num_labels=classes, **options)
    return _awake(getattr(transformers, class_name or entry.models[0])(config).eval())


def timm_network(name: str, classes: int, seed: int = 0) -> tuple[nn.Module, dict[str, Any]]:
    """A network of timm in evaluation mode, and the arguments that make it small."""
    torch.manual_seed(seed)
    return timm.create_model(name, num_classes=classes, **TIMM[name]).eval(), TIMM[name]


def _awake(network: Any) -> Any:
    """Freshly made networks often answer every image alike: weights and statistics that let signals through."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() >= 2:
                parameter.normal_(0, parameter[0].numel() ** -0.5)
        norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
        before = [layer.momentum for layer in norms]
        for layer in norms:
            layer.train().momentum = 1.0
        if norms:
            network(pixel_values=torch.rand(8, 3, 64, 64))
        for layer, momentum in zip(norms, before, strict=True):
            layer.eval().momentum = momentum
    return network
