"""One CLIP with a ViT in two layouts: the keys of open_clip and those of transformers' CLIPModel, either way.

open_clip keeps the three projections of attention in one tensor and multiplies from the right by its last projection.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

#: open_clip -> transformers, for what is one tensor in both.
_SINGLE = {
    "logit_scale": "logit_scale",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
}
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_TOWERS = {
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "transformer.resblocks": "text_model.encoder.layers",
}
_LAYERS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PROJECTIONS = ("q_proj", "k_proj", "v_proj")


def to_transformers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of `open_clip.CLIP` with a vision transformer by the keys of `transformers.CLIPModel`."""
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in _SINGLE:
            found[_SINGLE[key]] = value
        elif key in _TRANSPOSED:
            found[_TRANSPOSED[key]] = value.T.contiguous()
        elif match := re.fullmatch(r"(.+)\.(\d+)\.attn\.in_proj_(weight|bias)", key):
            for name, part in zip(_PROJECTIONS, value.chunk(3), strict=True):
                found[f"{_TOWERS[match[1]]}.{match[2]}.self_attn.{name}.{match[3]}"] = part.contiguous()
        elif match := re.fullmatch(r"(.+)\.(\d+)\.(.+)\.(weight|bias)", key):
            found[f"{_TOWERS[match[1]]}.{match[2]}.{_LAYERS[match[3]]}.{match[4]}"] = value
        else:
            raise KeyError(key)
    return found


def to_open_clip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `to_transformers`."""
    singles = {ours: key for key, ours in _SINGLE.items()}
    transposed = {ours: key for key, ours in _TRANSPOSED.items()}
    towers = {ours: key for key, ours in _TOWERS.items()}
    layers = {ours: key for key, ours in _LAYERS.items()}
    found: dict[str, Tensor] = {}
    for key, value in state.items():
        if key in singles:
            found[singles[key]] = value
        elif key in transposed:
            found[transposed[key]] = value.T.contiguous()
        elif match := re.fullmatch(r"(.+)\.(\d+)\.self_attn\.q_proj\.(weight|bias)", key):
            parts = [state[key.replace("q_proj", name)] for name in _PROJECTIONS]
            found[f"{towers[match[1]]}.{match[2]}.attn.in_proj_{match[3]}"] = torch.cat(parts)
        elif re.search(r"self_attn\.[kv]_proj\.", key):
            continue  # with its q_proj
        elif match := re.fullmatch(r"(.+)\.(\d+)\.(.+)\.(weight|bias)", key):
            found[f"{towers[match[1]]}.{match[2]}.{layers[match[3]]}.{match[4]}"] = value
        else:
            raise KeyError(key)
    return found


def transformers_config(model_cfg: Mapping[str, Any], end: int) -> dict[str, Any]:
    """Arguments of `transformers.CLIPConfig` for open_clip's `model_cfg` with a vision transformer.

    Args:
        end: number of the token that ends a text.
    """
    images, texts = model_cfg["vision_cfg"], model_cfg["text_cfg"]
    activation = "quick_gelu" if model_cfg.get("quick_gelu") else "gelu"
    return {
        "projection_dim": model_cfg["embed_dim"],
        "vision_config": {
            "hidden_size": images["width"],
            "intermediate_size": int(images["width"] * images.get("mlp_ratio", 4.0)),
            "num_hidden_layers": images["layers"],
            "num_attention_heads": images["width"] // images.get("head_width", 64),
            "image_size": images["image_size"],
            "patch_size": images["patch_size"],
            "hidden_act": activation,
        },
        "text_config": {
            "hidden_size": texts["width"],
            "intermediate_size": int(texts["width"] * texts.get("mlp_ratio", 4.0)),
            "num_hidden_layers": texts["layers"],
            "num_attention_heads": texts["heads"],
            "max_position_embeddings": texts.get("context_length", 77),
            "vocab_size": texts.get("vocab_size", 49_408),
            "eos_token_id": end,
            "bos_token_id": 0,
            "pad_token_id": 0,
            "hidden_act": activation,
        },
    }
