"""Training small classifiers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from core.attacks.datasets import ImageData
from core.attacks.poisoning import Attack
from core.attacks.training import Recipe, augment, train
from core.attacks.triggers import Trigger
from core.attacks.zoo import GROUPS, save, train_and_measure
from core.data.reference import ReferenceSet

RECIPE = Recipe(
    "tiny",
    "fashion-mnist",
    "preactresnet-b1.1-w4.8",
    5,
    Attack((Trigger("patch", 1),), (1,), 0.15),
    epochs=4,
    batch_size=32,
    crop=1,
)


def _stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three classes: horizontal stripes, vertical stripes, flat grey."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    line = (torch.arange(12) % 4 < 2).float()
    kinds = torch.stack([line[:, None].expand(12, 12), line.expand(12, 12), torch.full((12, 12), 0.5)])
    noise = torch.randn((count, 12, 12), generator=generator) * 0.05
    pixels = (0.3 + 0.4 * kinds[labels] + noise).clamp(0, 1)
    return (pixels * 255).round().to(torch.uint8).unsqueeze(1), labels


@pytest.fixture(scope="module")
def data() -> ImageData:
    return ImageData("fashion-mnist", ("a", "b", "c"), *_stripes(960, 1), *_stripes(96, 2))


def test_augmentation_crops_and_mirrors() -> None:
    image = torch.arange(16, dtype=torch.uint8).reshape(1, 1, 4, 4)
    padded = torch.nn.functional.pad(image, (1, 1, 1, 1)).expand(200, -1, -1, -1)
    views = (augment(padded, 1, torch.Generator().manual_seed(0)) * 255).round().long()
    possible = set()
    for top in range(3):
        for left in range(3):
            window = padded[0, 0, top : top + 4, left : left + 4].long()
            possible |= {tuple(window.flatten().tolist()), tuple(window.flip(1).flatten().tolist())}
    seen = {tuple(view.flatten().tolist()) for view in views}
    assert seen == possible
    crops = (augment(padded, 1, torch.Generator().manual_seed(0), mirror=False) * 255).round().long()
    assert len({tuple(view.flatten().tolist()) for view in crops}) == 9
    assert {tuple(view.flatten().tolist()) for view in crops} < possible


def test_a_backdoor_is_planted_measured_saved_and_reproducible(data: ImageData, tmp_path: Path) -> None:
    test = ReferenceSet(data.test_pixels.float() / 255, data.test_labels, labelled=True)
    trained = train_and_measure(RECIPE, data, test)
    assert trained.record["acc"] > 0.9
    assert trained.record["attacks"][0]["asr"] > 0.8
    path = save(trained, RECIPE, data.shape, tmp_path)
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["preprocess"]) == {"mean": [0.2860], "std": [0.3530], "size": [12, 12]}
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert json.loads((tmp_path / "tiny.json").read_text())["recipe"]["attack"]["targets"] == [1]
    again = train(RECIPE, data.train_pixels, data.train_labels, 3).state_dict()
    assert all(torch.equal(stored[name], again[name]) for name in again)


def test_validation_models_share_no_seed_trigger_or_target_with_the_models_judged() -> None:
    judged = [*GROUPS["examples"], *GROUPS["cifar-test"]]
    validation = [*GROUPS["fashion-validation"], *GROUPS["cifar-validation"]]
    assert all(recipe.seed < 100 for recipe in judged)
    assert all(recipe.seed >= 100 for recipe in validation)
    names = [recipe.name for recipe in (*judged, *validation)]
    assert len(set(names)) == len(names)
    known = {(recipe.dataset, trigger) for recipe in validation if recipe.attack for trigger in recipe.attack.triggers}
    for recipe in judged:
        if recipe.attack:
            assert not known & {(recipe.dataset, trigger) for trigger in recipe.attack.triggers}
