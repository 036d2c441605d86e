"""Directions of texts: what is left of a text tower once it has run. The computing child's part."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import normalize

TEXTS_FILE = "texts.safetensors"
_BATCH = 64
MAX_CLUSTERS = 64
_IMAGES_PER_CLUSTER = 4
_ITERATIONS = 30


@dataclass(frozen=True, slots=True)
class TokenisedTexts:
    """Token numbers of a scan's texts.

    Attributes:
        vocabulary: (K, P, L) int64: K targets by P prompts; None where clustering finds the targets.
        captions: (N, L) int64, one for each reference image; None without captions.
    """

    vocabulary: Tensor | None
    captions: Tensor | None

    def save(self, intake_dir: Path) -> None:
        """Writes texts.safetensors."""
        tensors = {"vocabulary": self.vocabulary, "captions": self.captions}
        save_file({key: value for key, value in tensors.items() if value is not None}, str(intake_dir / TEXTS_FILE))

    @classmethod
    def load(cls, intake_dir: Path) -> "TokenisedTexts":
        """Inverse of `save`; no texts without the file."""
        path = intake_dir / TEXTS_FILE
        tensors = load_file(str(path)) if path.is_file() else {}
        return cls(tensors.get("vocabulary"), tensors.get("captions"))


def directions(tokens: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, L) token numbers -> (N, D) rows of length one; a text that comes up twice is computed once."""
    different, place = torch.unique(tokens, dim=0, return_inverse=True)
    rows = [normalize(embed(part).float(), dim=1) for part in torch.split(different, _BATCH)]
    return torch.cat(rows)[place]


def anchor_directions(vocabulary: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """(K, P, L) -> (K, D): the mean direction of a target's prompts (Radford et al. 2021, section 3.1.4)."""
    targets, prompts, length = vocabulary.shape
    rows = directions(vocabulary.reshape(targets * prompts, length), embed)
    return normalize(rows.reshape(targets, prompts, -1).mean(1), dim=1)


def cluster(directions_: Tensor, seed: int) -> Tensor:
    """(N, D) rows of length one -> (K, D) centroids by spherical k-means (Dhillon and Modha 2001).

    K is 64, or a quarter of N where that is less, and at least 2. The first centroids are drawn as in k-means++; the
    same seed gives the same ones.
    """
    count = max(2, min(MAX_CLUSTERS, len(directions_) // _IMAGES_PER_CLUSTER))
    generator = torch.Generator().manual_seed(seed)
    rows = directions_.cpu()
    centroids = rows[torch.randint(len(rows), (1,), generator=generator)]
    while len(centroids) < count:
        distance = (1 - (rows @ centroids.T).amax(1)).clamp_min(1e-9)
        centroids = torch.cat((centroids, rows[torch.multinomial(distance, 1, generator=generator)]))
    for _ in range(_ITERATIONS):
        nearest = (rows @ centroids.T).argmax(1)
        sums = torch.zeros_like(centroids).index_add_(0, nearest, rows)
        empty = sums.norm(dim=1) < 1e-6
        moved = torch.where(empty[:, None], centroids, normalize(sums, dim=1))
        if torch.equal(moved, centroids):
            break
        centroids = moved
    return centroids


def nearest_names(centroids: Tensor, rows: Tensor, texts: tuple[str, ...]) -> tuple[str, ...]:
    """The text nearest to each centroid that is not the name of another one."""
    order = (centroids @ rows.T).argsort(1, descending=True)
    taken: set[str] = set()
    names = []
    for row in order.tolist():
        name = next((texts[i] for i in row if texts[i] not in taken), texts[row[0]])
        taken.add(name)
        names.append(name)
    return tuple(names)
