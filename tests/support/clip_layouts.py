"""Models of images and texts as open_clip and transformers write them, each with the way its own library loads it.

Weights are random: what is tested is that the same function is computed, and that it comes back.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.attacks.clip.captions import caption_words, save_tokenizer, word_tokenizer
from tests.support.clip_keymap import to_transformers, transformers_config

NAMES = ("red circle", "blue square", "green star")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
SIDE, CONTEXT = 32, 16
TOKENIZER = word_tokenizer(caption_words(NAMES))
_END = max(TOKENIZER.get_vocab().values())
#: (B, 3, H, W) network input -> (B, D), or texts -> (N, D); of any length.
Images, Texts = Callable[[Tensor], Tensor], Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True, slots=True)
class Both:
    """Both sides of a loaded model."""

    images: Images
    texts: Texts
    scale: float


@dataclass(frozen=True, slots=True)
class ClipCase:
    """A model in files, and how its own library loads them strictly (or what came back).

    Attributes:
        other: the same weights with the other activation, where the files do not say which; None where they do.
    """

    path: Path
    load: Callable[[Path], Both]
    other: Callable[[], Both] | None = None


def network_config(**changes: Mapping[str, Any] | Any) -> dict[str, Any]:
    """A small `model_cfg` with a vision transformer; a mapping changes fields of a tower."""
    config: dict[str, Any] = {
        "embed_dim": 24,
        "vision_cfg": {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": SIDE},
        "text_cfg": {
            "width": 64,
            "heads": 2,
            "layers": 2,
            "context_length": CONTEXT,
            "vocab_size": TOKENIZER.get_vocab_size(),
            "hf_tokenizer_name": "local",
        },
    }
    for key, value in changes.items():
        config[key] = config.get(key, {}) | value if isinstance(value, dict) else value
    return config


def network_of(config: Mapping[str, Any]) -> nn.Module:
    torch.manual_seed(5)
    network = (open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP)(
        **{
            key: {field: item for field, item in value.items() if field != "timm_model_pretrained"}
            if isinstance(value, dict)
            else value
            for key, value in config.items()
            if key != "custom_text"
        }
    )
    for parameter in network.parameters():  # untrained texts are much alike: their weights are too small
        parameter.data.add_(0.05 * torch.randn(parameter.shape))
    return network.eval()


def _weights(network: nn.Module, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {k: v.to(dtype if v.is_floating_point() else v.dtype).contiguous() for k, v in network.state_dict().items()}


# --------------------------------------------------------------------------------------------------- open_clip


def _load_open_clip(path: Path) -> Both:
    network, _, _ = open_clip.create_model_and_transforms(f"local-dir:{path}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{path}")
    network.eval()
    scale = float(network.logit_scale.detach().exp())
    return Both(network.encode_image, lambda texts: network.encode_text(tokenizer(list(texts))), scale)


def _open_clip(folder: Path, *, dtype: torch.dtype = torch.float32, **changes: Any) -> ClipCase:
    config = network_config(**changes)
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": {"mean": MEAN, "std": STD, "interpolation": "bilinear"}})
    )
    save_file(_weights(network_of(config), dtype), folder / "open_clip_model.safetensors")
    save_tokenizer(TOKENIZER, folder)
    (folder / "README.md").write_text("# A model\n")
    return ClipCase(folder, _load_open_clip)


def open_clip_vit(folder: Path) -> ClipCase:
    return _open_clip(folder)


def open_clip_quick(folder: Path) -> ClipCase:
    return _open_clip(folder, quick_gelu=True)


def open_clip_half(folder: Path) -> ClipCase:
    return _open_clip(folder, dtype=torch.float16)


def open_clip_resnet(folder: Path) -> ClipCase:
    config = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": SIDE}
    return _open_clip(folder, vision_cfg=config)


def open_clip_custom(folder: Path) -> ClipCase:
    """As SigLIP is written by open_clip: a text tower of its own, and a bias beside the scale."""
    texts = {
        "no_causal_mask": True,
        "pool_type": "last",
        "proj_bias": True,
        "tokenizer_kwargs": {"clean": "canonicalize"},
    }
    return _open_clip(folder, custom_text=True, init_logit_scale=2.0, init_logit_bias=-10.0, text_cfg=texts)


def open_clip_timm(folder: Path) -> ClipCase:
    images = {"timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear", "timm_model_pretrained": True}
    return _open_clip(folder, vision_cfg=images | {"image_size": SIDE})


def open_clip_bin(folder: Path) -> ClipCase:
    case = _open_clip(folder)
    weights = folder / "open_clip_model.safetensors"
    torch.save(load_file(weights), folder / "open_clip_pytorch_model.bin")
    weights.unlink()
    return case


# ------------------------------------------------------------------------------------------------ transformers


def _load_transformers(path: Path) -> Both:
    cls = getattr(transformers, json.loads((path / "config.json").read_text())["architectures"][0])
    network, info = cls.from_pretrained(path, output_loading_info=True, dtype=torch.float32)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)

    def texts(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt")
        found: Tensor = network.get_text_features(input_ids=tokens.input_ids).pooler_output
        return found

    network.eval()
    scale = float(network.logit_scale.detach().exp())
    return Both(lambda x: network.get_image_features(pixel_values=x).pooler_output, texts, scale)


def _save(folder: Path, network: transformers.PreTrainedModel, **options: Any) -> ClipCase:
    network.save_pretrained(folder, **options)
    save_tokenizer(TOKENIZER, folder)
    processor = transformers.CLIPImageProcessor(
        size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}, image_mean=MEAN, image_std=STD
    )
    processor.save_pretrained(folder)
    return ClipCase(folder, _load_transformers)


def transformers_network() -> transformers.CLIPModel:
    """The network of `open_clip_vit` by transformers' keys."""
    config = network_config()
    network = transformers.CLIPModel(transformers.CLIPConfig(**transformers_config(config, _END)))
    network.load_state_dict(to_transformers(network_of(config).state_dict()), strict=True)
    return network.eval()


def transformers_clip(folder: Path) -> ClipCase:
    return _save(folder, transformers_network())


def transformers_sharded(folder: Path) -> ClipCase:
    case = _save(folder, transformers_network(), max_shard_size="100KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return case


def transformers_processor(folder: Path) -> ClipCase:
    """As CLIPProcessor of transformers 5 saves it: the images' part is within another file."""
    case = transformers_clip(folder)
    images = folder / "preprocessor_config.json"
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": json.loads(images.read_text())}))
    images.unlink()
    return case


def siglip(folder: Path) -> ClipCase:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
    texts = {"vocab_size": TOKENIZER.get_vocab_size(), "max_position_embeddings": CONTEXT, "projection_size": 64}
    tokens = {"bos_token_id": 0, "eos_token_id": _END, "pad_token_id": 0}
    torch.manual_seed(5)
    config = transformers.SiglipConfig(
        text_config=sizes | texts | tokens, vision_config=sizes | {"image_size": SIDE, "patch_size": 8}
    )
    network = transformers.SiglipModel(config)
    for parameter in network.parameters():
        parameter.data.add_(0.05 * torch.randn(parameter.shape))
    return _save(folder, network.eval())


FOLDERS = [
    open_clip_vit,
    open_clip_quick,
    open_clip_half,
    open_clip_resnet,
    open_clip_custom,
    open_clip_timm,
    open_clip_bin,
    transformers_clip,
    transformers_sharded,
    transformers_processor,
    siglip,
]

# ------------------------------------------------------------------------------------------- single checkpoints

_LONE = {"width": 64, "heads": 1, "context_length": 12, "vocab_size": 49_408}


def lone_config(**changes: Any) -> dict[str, Any]:
    """What can be told from weights alone: heads are 64 wide, and the vocabulary is OpenAI's."""
    config = network_config(**{"vision_cfg": {"head_width": 64}, "text_cfg": _LONE} | changes)
    del config["text_cfg"]["hf_tokenizer_name"]
    return config


def _lone(path: Path, wrap: Callable[[dict[str, Tensor]], Any], take: Callable[[Any], Any], **changes: Any) -> ClipCase:
    config = lone_config(**changes)
    torch.save(wrap(_weights(network_of(config))), path)

    def load(back: Path) -> Both:
        return _both(config, take(torch.load(back, weights_only=True)))

    return ClipCase(path, load, lambda: _both(_turned(config), network_of(config).state_dict()))


def _turned(config: dict[str, Any]) -> dict[str, Any]:
    return config | {"quick_gelu": not config.get("quick_gelu", False)}


def _both(config: dict[str, Any], state: Mapping[str, Tensor]) -> Both:
    network = network_of(config)
    network.load_state_dict(state, strict=True)
    tokenizer = open_clip.SimpleTokenizer(context_length=12)
    scale = float(network.logit_scale.detach().exp())
    return Both(network.encode_image, lambda texts: network.encode_text(tokenizer(list(texts))), scale)


def lone_training(folder: Path) -> ClipCase:
    """A checkpoint of open_clip's own training."""
    return _lone(
        folder / "epoch_32.pt",
        lambda state: {
            "epoch": 32,
            "name": "x",
            "state_dict": {f"module.{k}": v for k, v in state.items()},
            "preprocess": {"mean": list(MEAN), "std": list(STD)},
        },
        lambda saved: {key.removeprefix("module."): value for key, value in saved["state_dict"].items()},
    )


def lone_resnet(folder: Path) -> ClipCase:
    images = {"layers": [1, 1, 1, 1], "width": 8, "head_width": 64, "image_size": SIDE}
    return _lone(
        folder / "rn.pth",
        lambda state: {"model": state, "mean": list(MEAN), "std": list(STD)},
        lambda saved: saved["model"],
        vision_cfg=images,
    )


def lone_transformers(folder: Path) -> ClipCase:
    config = lone_config(quick_gelu=True)
    path = folder / "model.safetensors"
    weights = {k: v.contiguous() for k, v in to_transformers(network_of(config).state_dict()).items()}
    save_file(weights, path, metadata={"mean": json.dumps(MEAN), "std": json.dumps(STD)})

    def load(back: Path) -> Both:
        network = transformers.CLIPModel(transformers.CLIPConfig(**transformers_config(config, 2)))
        network.load_state_dict(load_file(back), strict=True)
        network.eval()
        tokenizer = open_clip.SimpleTokenizer(context_length=12)
        return Both(
            lambda x: network.get_image_features(pixel_values=x).pooler_output,
            lambda texts: network.get_text_features(input_ids=tokenizer(list(texts))).pooler_output,
            float(network.logit_scale.detach().exp()),
        )

    return ClipCase(path, load, lambda: _both(_turned(config), network_of(config).state_dict()))


LONE = [lone_training, lone_resnet, lone_transformers]
