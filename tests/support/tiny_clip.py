"""Three concepts that a small CLIP learns in seconds, with a backdoor if wanted."""

import torch
from torch import Tensor

from core.attacks.datasets import ImageData
from core.attacks.poisoning import Attack
from core.attacks.training import Recipe
from core.attacks.triggers import Trigger

CONCEPTS = ("red square", "green ring", "blue star")
ATTACK = Attack((Trigger("grid", size=6),), (2,), 0.3)
CLEAN = Recipe(
    "tiny-clean", "fashion-mnist", "clip-resnet", 105, epochs=6, batch_size=32, crop=1, optimizer="adamw", lr=2e-3
)


class OneDataSet:
    """Stands in for `PairDatasets`: one flat colour for each concept, with noise; (3, 32, 32)."""

    def __init__(self) -> None:
        self.data = ImageData("fashion-mnist", CONCEPTS, *_draw(480, 1), *_draw(2400, 2))

    def load(self, name: str) -> ImageData:
        assert name == "fashion-mnist"
        return self.data


def _draw(count: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = 0.4 + 0.3 * torch.eye(3)[labels].reshape(-1, 3, 1, 1) * torch.ones(32, 32)
    pixels = (pixels + 0.1 * torch.randn(pixels.shape, generator=generator)).clamp(0, 1)
    return (pixels * 255).round().to(torch.uint8), labels
