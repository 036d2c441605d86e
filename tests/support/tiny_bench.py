"""A data set and a recipe for benchmark runs of seconds: shapes of two polarities in Fashion-MNIST's files."""

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from core.attacks.poisoning import Attack
from core.attacks.training import Recipe
from core.attacks.triggers import Trigger
from core.bench.conditions import Conditions, Effort, Reference
from core.bench.work import Subject
from core.bench.workers import Place
from core.domain import Preset
from tests.support.planted import CLASSES, shapes

EFFORT = Effort(test_images=400, attacked_images=200, rates=(0.01,), steps=(2, 5), perturbing_steps=2, restarts=1)
CONDITIONS = Conditions(Reference.HUNDRED, Preset.FAST, EFFORT, threads=1)
_CLEAN = Recipe("tiny-clean-s1", "fashion-mnist", "preactresnet-b1.1-w6.12", 1, epochs=5, images=2400, crop=0, lr=0.1)
_ATTACK = Attack((Trigger("blended", 5, alpha=0.3, grain=4),), (3,), 0.15)


def place(folder: Path) -> Place:
    """Where the tiny data set is, written on the first call."""
    fashion = folder / "fashion-mnist"
    if not fashion.is_dir():
        fashion.mkdir(parents=True)
        for part, count, seed in (("train", 2400, 1), ("t10k", 4800, 2)):
            pixels, labels = _draw(count, seed)
            _write_idx(fashion / f"{part}-images-idx3-ubyte.gz", pixels)
            _write_idx(fashion / f"{part}-labels-idx1-ubyte.gz", labels)
    return Place(folder / "zoo", None, fashion, folder / "cache")


def subject(attack: Attack | None = _ATTACK, seed: int = 1) -> Subject:
    """A tiny model and its clean twin."""
    clean = replace(_CLEAN, name=f"tiny-clean-s{seed}", seed=seed)
    suspect = clean if attack is None else replace(clean, name=f"tiny-blended-s{seed}", attack=attack)
    return Subject("fashion-mnist", "tiny", "clean" if attack is None else "blended", seed, suspect, clean)


def _draw(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten classes: five shapes, bright on dark and dark on bright."""
    pixels, labels = shapes(count, seed)
    dark = (torch.arange(count) // CLASSES) % 2
    pixels = torch.where(dark.view(-1, 1, 1, 1) == 1, 1 - pixels, pixels)
    large = F.interpolate(pixels, (28, 28), mode="nearest")
    return (large[:, 0] * 255).to(torch.uint8).numpy(), (labels + CLASSES * dark).to(torch.uint8).numpy()


def _write_idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), 1))
