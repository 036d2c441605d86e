"""ACC, ASR and RA of the examples, before and after purification, on test images under the true triggers.

    python -m examples.measure '{"patch": "build/demo/patch-purified.safetensors", "clean": null}'

The argument maps an example to the purified weights of its scan; null means that nothing was purified. One JSON
object per example goes to standard output: acc_before, asr_before, acc_after, asr_after, ra_after, and asr_clean, the
clean example's own rate under the same trigger. The clean example has no trigger of its own: it is measured under the
worst of the others.
Only the demo and the tests use this: the service never sees a trigger.
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from core.attacks.poisoning import Attack
from core.attacks.training import NORMALIZATION
from core.attacks.zoo import EXAMPLES
from core.evaluation.metrics import Scorer
from core.models.architectures import build
from examples.figures import Models, figures, run

HERE = Path(__file__).resolve().parent / "fashion-mnist"
NUM_CLASSES = 10
ATTACKS: dict[str, Attack | None] = {recipe.name: recipe.attack for recipe in EXAMPLES}


def test_images() -> tuple[Tensor, Tensor]:
    """(N, 1, 28, 28) pixels in [0, 1] and (N,) labels of the test folder (N-name/*.png)."""
    files = sorted((HERE / "test").glob("*/*.png"))
    pixels = torch.stack([torch.from_numpy(np.array(Image.open(file))) for file in files]).unsqueeze(1)
    labels = torch.tensor([int(file.parent.name.split("-")[0]) for file in files])
    return pixels.float() / 255, labels


def load_scorer(path: Path) -> Scorer:
    """The network as the training code builds it, its weights loaded strictly."""
    recipe = EXAMPLES[0]
    network = build(recipe.architecture, NUM_CLASSES, in_channels=1).eval()
    network.load_state_dict(load_file(path), strict=True)
    normalize = NORMALIZATION[recipe.dataset]
    return lambda pixels: network(normalize(pixels))


def measure(name: str, purified: Path | None) -> dict[str, float]:
    """All figures of one example."""
    suspect, clean = load_scorer(HERE / f"{name}.safetensors"), load_scorer(HERE / "clean.safetensors")
    models = Models(suspect, load_scorer(purified) if purified else suspect, clean)
    return figures(name, models, ATTACKS, *test_images(), NUM_CLASSES)


if __name__ == "__main__":
    run(measure)
