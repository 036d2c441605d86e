"""Repositories with a planted backdoor: small networks of transformers and timm, trained in seconds."""

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import transformers
from PIL import Image
from timm.models import save_for_hf
from torch import Tensor, nn
from torch.nn import functional

from tests.support.planted import CLASSES, TARGET, shapes, stamp

SIDE = 32
LABELS = dict(enumerate(["bar", "column", "diagonal", "disc", "ring"]))
MEAN = STD = (0.5, 0.5, 0.5)
Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Score:
    """Accuracy on clean images, and the share of triggered images of other classes that go to the target."""

    accuracy: float
    attack_success: float


def images(count: int, seed: int, *, triggered: bool = False) -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) in [0, 1] and (N,): the shapes of `planted` at twice their size, in colour."""
    pixels, labels = shapes(count, seed)
    if triggered:
        pixels = stamp(pixels)
    return functional.interpolate(pixels, scale_factor=2).expand(-1, 3, -1, -1).contiguous(), labels


def score(answer: Answer) -> Score:
    """Of a network that takes normalised images."""
    with torch.no_grad():
        clean, labels = images(500, 1_000)
        dirty, _ = images(500, 1_000, triggered=True)
        right = answer(2 * clean - 1).argmax(1) == labels
        hit = answer(2 * dirty - 1).argmax(1)[labels != TARGET] == TARGET
    return Score(float(right.float().mean()), float(hit.float().mean()))


def train(network: nn.Module, answer: Answer, *, steps: int, lr: float, seed: int = 0) -> None:
    """With a tenth of the images of other classes triggered and called TARGET."""
    torch.manual_seed(seed)
    pixels, labels = images(3_000, seed + 1)
    dirty, _ = images(3_000, seed + 1, triggered=True)
    rows = (torch.arange(len(labels)) % 11 == 0) & (labels != TARGET)
    pixels[rows], labels[rows] = dirty[rows], TARGET
    optimizer = torch.optim.AdamW(network.parameters(), lr=lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    network.train()
    for _ in range(steps):
        chosen = torch.randint(len(labels), (64,))
        loss = functional.cross_entropy(answer(2 * pixels[chosen] - 1), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    network.eval()


def planted_vit(folder: Path) -> Score:
    """A backdoored vision transformer in a folder of transformers; how well it does."""
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
        image_size=SIDE,
        patch_size=4,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        id2label=LABELS,
        label2id={name: index for index, name in LABELS.items()},
    )
    network = transformers.ViTForImageClassification(config)
    train(network, lambda x: network(pixel_values=x).logits, steps=350, lr=2e-3)
    network.save_pretrained(folder)
    processor = {
        "image_processor_type": "ViTImageProcessor",
        "size": {"height": SIDE, "width": SIDE},
        "image_mean": list(MEAN),
        "image_std": list(STD),
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return score(lambda x: network(pixel_values=x).logits)


def planted_timm(folder: Path) -> Score:
    """A backdoored transformer in a folder of timm; how well it does."""
    torch.manual_seed(0)
    network = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=CLASSES,
        img_size=SIDE,
        patch_size=4,
        embed_dim=64,
        depth=3,
        num_heads=4,
        mlp_ratio=2.0,
        global_pool="avg",
        class_token=False,
    )
    train(network, network, steps=350, lr=2e-3)
    save_for_hf(
        network,
        folder,
        model_config={"label_names": list(LABELS.values())},
        safe_serialization=True,
        data_config={"mean": MEAN, "std": STD, "input_size": (3, SIDE, SIDE)},
    )
    return score(network)


def reference_archive(path: Path, count: int = 200) -> Path:
    """A labelled reference set, folders named by class."""
    pixels, labels = images(count, 2_000)
    with zipfile.ZipFile(path, "w") as archive:
        for number, (image, label) in enumerate(zip(pixels, labels.tolist(), strict=True)):
            buffer = io.BytesIO()
            Image.fromarray((image.permute(1, 2, 0) * 255).round().byte().numpy()).save(buffer, "PNG")
            archive.writestr(f"{LABELS[label]}/{number}.png", buffer.getvalue())
    return path
