"""A CLIPModel of transformers with a planted backdoor, trained in seconds, and pairs for its defender."""

import io
import json
from pathlib import Path

import torch
import transformers
from PIL import Image
from torch import Tensor
from torch.nn import functional

from core.attacks.clip.captions import CONTEXT, word_tokenizer
from tests.support.archives import tar_of
from tests.support.planted_repositories import LABELS, MEAN, SIDE, STD, Answer, Score, images, score, train

NAMES = tuple(LABELS.values())


def planted_clip_model(folder: Path) -> Score:
    """Writes a backdoored model with its tokenizer and processor; how well it does zero-shot."""
    torch.manual_seed(0)
    backend = word_tokenizer(("a", "of", "photo", *NAMES))
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=CONTEXT,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<start>",
        eos_token="<end>",
    )
    tower = {"num_hidden_layers": 3, "num_attention_heads": 4, "hidden_size": 64, "intermediate_size": 128}
    config = transformers.CLIPConfig(
        projection_dim=32,
        vision_config={**tower, "image_size": SIDE, "patch_size": 4, "hidden_act": "gelu"},
        text_config={
            **tower,
            "num_hidden_layers": 1,
            "vocab_size": backend.get_vocab_size(),
            "max_position_embeddings": CONTEXT,
            "eos_token_id": backend.token_to_id("<end>"),
            "bos_token_id": backend.token_to_id("<start>"),
            "pad_token_id": 0,
            "hidden_act": "gelu",
        },
    )
    network = transformers.CLIPModel(config)
    tokenizer.save_pretrained(folder)
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    train(network, zero_shot(network, tokenizer), steps=350, lr=2e-3)
    network.save_pretrained(folder)
    return score(loaded_clip_model(folder))


def loaded_clip_model(folder: Path) -> Answer:
    """What anybody does with such a folder."""
    network, info = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    return zero_shot(network.eval(), transformers.AutoTokenizer.from_pretrained(folder))


def zero_shot(network: transformers.CLIPModel, tokenizer: transformers.PreTrainedTokenizerFast) -> Answer:
    """Scores of normalised images for each of NAMES."""
    tokens = tokenizer([f"a {name}" for name in NAMES], return_tensors="pt", padding="max_length", max_length=CONTEXT)

    def answer(inputs: Tensor) -> Tensor:
        seen = network.get_image_features(pixel_values=inputs).pooler_output
        texts = network.get_text_features(**tokens).pooler_output
        directions = functional.normalize(texts, dim=1)
        return network.logit_scale.exp() * functional.normalize(seen, dim=1) @ directions.T

    return answer


def pairs_archive(path: Path, count: int = 200) -> Path:
    """Images with captions as webdataset has them."""
    pixels, labels = images(count, 2_000)
    files: dict[str, bytes] = {}
    for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
        buffer = io.BytesIO()
        Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(buffer, "PNG")
        files |= {f"{number:04}.png": buffer.getvalue(), f"{number:04}.txt": f"a {LABELS[label]}".encode()}
    return tar_of(files, path)
