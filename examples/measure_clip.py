"""Zero-shot ACC, ASR and RA of the CLIP examples, before and after purification, under the true triggers.

    python -m examples.measure_clip '{"patch": "build/demo-clip/patch-purified", "clean": null}'

The argument maps an example to the folder with its purified repository; null means that nothing was purified. The
output is that of examples/measure.py. The repositories are loaded as anybody would load them, by open_clip, and asked
with open_clip's tokenizer; images are drawn afresh.
"""

import json
from pathlib import Path

import open_clip
import torch
from torch import Tensor
from torch.nn.functional import normalize

from core.attacks.kinds import attack_from_json
from core.attacks.poisoning import Attack
from core.attacks.procedural import SCENES, draw_scenes
from core.evaluation.metrics import Scorer
from examples.figures import Models, figures, run

HERE = Path(__file__).resolve().parent / "clip"
PROMPTS = ("a {}", "{}", "a photo of a {}", "a picture of a {}")
#: Of another draw than every image that a model was trained on or scanned with.
TEST_IMAGES, TEST_SEED = 1_280, 20_261_124


def test_images() -> tuple[Tensor, Tensor]:
    """(N, 3, 32, 32) pixels in [0, 1] and (N,) concepts, as many of each."""
    pixels, labels = draw_scenes(TEST_IMAGES, TEST_SEED)
    return pixels.float() / 255, labels


def load_scorer(folder: Path) -> Scorer:
    """A repository as open_clip loads it; scores are logits over the concepts."""
    network, _, transform = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    network.eval()
    with torch.no_grad():
        texts = [prompt.format(concept) for concept in SCENES for prompt in PROMPTS]
        embedded = normalize(network.encode_text(tokenizer(texts)), dim=1)
        anchors = normalize(embedded.reshape(len(SCENES), len(PROMPTS), -1).mean(1), dim=1)
    # Images have the network's size already: of its own transform only the normalisation does anything.
    normalise = transform.transforms[-1]
    return lambda pixels: normalize(network.encode_image(normalise(pixels)), dim=1) @ anchors.T


def attacks() -> dict[str, Attack | None]:
    """Of each example, as provenance.json has it."""
    models = json.loads((HERE / "provenance.json").read_text())["models"]
    planted = {name: record["planted"] for name, record in models.items()}
    return {name: None if value is None else attack_from_json(value) for name, value in planted.items()}


def measure(name: str, purified: Path | None) -> dict[str, float]:
    """All figures of one example."""
    suspect, clean = load_scorer(HERE / name), load_scorer(HERE / "clean")
    models = Models(suspect, load_scorer(purified) if purified else suspect, clean)
    return figures(name, models, attacks(), *test_images(), len(SCENES))


if __name__ == "__main__":
    run(measure)
