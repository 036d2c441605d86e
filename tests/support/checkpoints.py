"""Checkpoints and reference sets to feed to intake."""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from core.config import ScanConfig
from core.context import RunContext
from core.models.architectures import build
from core.models.intake import intake
from core.models.source import Source

#: Small enough for every test; 10 classes.
TINY = "preactresnet-b1.1-w8.16"
CONTAINERS = ("safetensors", "torch-zip", "torch-legacy")


def tiny_network(name: str = TINY, num_classes: int = 10, in_channels: int = 3, seed: int = 0) -> nn.Module:
    """Seeded weights, and statistics that are not the initial ones."""
    torch.manual_seed(seed)
    module = build(name, num_classes, in_channels)
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None and layer.running_var is not None:
                layer.running_mean.normal_(0, 0.1)
                layer.running_var.uniform_(0.5, 1.5)
    return module.eval()


def save(content: Any, path: Path, container: str, metadata: Mapping[str, str] | None = None) -> Path:
    """Writes `content` in a container; the path gets the right extension."""
    if container == "safetensors":
        path = path.with_suffix(".safetensors")
        save_file({key: value.contiguous() for key, value in content.items()}, str(path), metadata=metadata)
        return path
    path = path.with_suffix(".pth")
    torch.save(content, path, _use_new_zipfile_serialization=container == "torch-zip")
    return path


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


def png(seed: int, side: int = 32, mode: str = "RGB", kind: str = "PNG") -> bytes:
    """A smooth random picture."""
    coarse = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def zip_of(files: Mapping[str, bytes], path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def reference_zip(
    path: Path, count: int = 20, name: Callable[[int], str] = lambda i: f"{i % 10}/{i}.png", **options: Any
) -> Path:
    """`count` pictures, by default in folders named by class index."""
    return zip_of({name(i): png(i, **options) for i in range(count)}, path)


def run_intake(
    model_path: Path, out_dir: Path, reference: Path | None = None, filename: str | None = None, **config: Any
) -> Path:
    """Runs intake on a file and returns the intake folder."""
    source = Source.single(model_path, filename or model_path.name)
    intake(source, reference, ScanConfig(**config), out_dir, RunContext())
    return out_dir
