"""The clean images a scan works from."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.data.reading import DecodedReference

_PIXELS_FILE, _REPORT_FILE = "reference.safetensors", "reference.json"


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Clean images in pixel space.

    Attributes:
        pixels: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64. True labels when `labelled`, else the suspect's own predictions.
        labelled: whether accuracy measured here is accuracy, or agreement with the suspect.
        class_names: names by class index; empty if unknown.
        texts: (N, D) direction of each image's own text, rows of length one; None unless the images came with texts.
    """

    pixels: Tensor
    labels: Tensor
    labelled: bool
    class_names: tuple[str, ...] = ()
    texts: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> "ReferenceSet":
        texts = None if self.texts is None else self.texts.to(device)
        return replace(self, pixels=self.pixels.to(device), labels=self.labels.to(device), texts=texts)

    def subset(self, index: Tensor) -> "ReferenceSet":
        texts = None if self.texts is None else self.texts[index]
        return replace(self, pixels=self.pixels[index], labels=self.labels[index], texts=texts)

    def split(self, held_out: float, seed: int) -> tuple["ReferenceSet", "ReferenceSet"]:
        """Disjoint (fit, held-out) parts, stratified by label, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        held: list[Tensor] = []
        for label in torch.unique(self.labels):
            rows = (self.labels == label).nonzero().flatten()
            rows = rows[torch.randperm(len(rows), generator=generator)]
            held.append(rows[: round(len(rows) * held_out)])
        mask = torch.zeros(len(self), dtype=torch.bool)
        mask[torch.cat(held)] = True
        return self.subset((~mask).nonzero().flatten()), self.subset(mask.nonzero().flatten())


class Predictor(Protocol):
    """The part of a SuspectModel that labels images."""

    def target_log_posterior(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, K)."""
        ...

    def trainable_parameters(self) -> list[nn.Parameter]:
        """On the device that images must be on."""
        ...


def save_reference(decoded: DecodedReference, intake_dir: Path) -> None:
    """Writes what `load_reference` reads; captions are `captions` in the report."""
    tensors = {"pixels": decoded.pixels}
    if decoded.labels is not None:
        tensors["labels"] = decoded.labels
    save_file(tensors, str(intake_dir / _PIXELS_FILE))
    report = decoded.report
    if decoded.captions is not None:
        report = report | {"captions": list(decoded.captions)}
    (intake_dir / _REPORT_FILE).write_text(json.dumps(report, indent=2))


def load_report(intake_dir: Path) -> dict[str, Any] | None:
    """What was used of the reference set and what was not; None without one."""
    path = intake_dir / _REPORT_FILE
    report: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return report


def load_reference(intake_dir: Path, model: Predictor | None = None, *, batch_size: int = 256) -> ReferenceSet | None:
    """The reference set of an intake folder; None without one.

    Args:
        intake_dir: what core.models.intake wrote.
        model: labels an unlabelled set with its own predictions; without it such labels are -1.
        batch_size: images at once through the model.
    """
    report = load_report(intake_dir)
    if report is None:
        return None
    tensors = load_file(str(intake_dir / _PIXELS_FILE))
    pixels = tensors["pixels"].to(torch.float32).div_(255)
    labels = tensors.get("labels")
    if labels is None:
        labels = torch.full((len(pixels),), -1, dtype=torch.int64)
        if model is not None:
            device = model.trainable_parameters()[0].device
            with torch.no_grad():
                for start in range(0, len(pixels), batch_size):
                    rows = slice(start, start + batch_size)
                    labels[rows] = model.target_log_posterior(pixels[rows].to(device)).argmax(1).cpu()
    return ReferenceSet(pixels, labels, bool(report["labelled"]), tuple(report["class_names"]))
