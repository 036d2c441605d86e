"""The clean images a scan works from."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Clean images in pixel space.

    Attributes:
        pixels: (N, C, H, W) float32 in [0, 1].
        labels: (N,) int64. True labels when `labelled`, else the suspect's own predictions.
        labelled: whether accuracy measured here is accuracy, or agreement with the suspect.
        class_names: names by class index; empty if unknown.
    """

    pixels: Tensor
    labels: Tensor
    labelled: bool
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "ReferenceSet":
        return ReferenceSet(self.pixels[index], self.labels[index], self.labelled, self.class_names)

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
