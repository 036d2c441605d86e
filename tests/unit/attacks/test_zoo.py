"""The cache of trained models, and the recipes behind it."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest
import torch
from torch import Tensor

from core.attacks.datasets import ImageData
from core.attacks.described import describe
from core.attacks.poisoning import Attack
from core.attacks.suite import recipe
from core.attacks.training import Recipe
from core.attacks.triggers import Trigger
from core.attacks.zoo import EMBEDDED, EXAMPLES, Zoo

ROOT = Path(__file__).resolve().parents[3]
CLEAN = Recipe(
    "tiny-clean", "fashion-mnist", "preactresnet-b1.1-w4.8", 105, epochs=3, batch_size=32, crop=1, images=480
)
ATTACK = Attack((Trigger("patch", 1), Trigger("patch", 2)), (1, 2), 0.3)
PATCHED = replace(CLEAN, name="tiny-patched", attack=ATTACK, epochs=6, images=None)


def _stripes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Three classes: horizontal stripes, vertical stripes, flat grey."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    line = (torch.arange(12) % 4 < 2).float()
    kinds = torch.stack([line[:, None].expand(12, 12), line.expand(12, 12), torch.full((12, 12), 0.5)])
    pixels = (0.3 + 0.4 * kinds[labels] + torch.randn((count, 12, 12), generator=generator) * 0.05).clamp(0, 1)
    return (pixels * 255).round().to(torch.uint8).unsqueeze(1), labels


class OneDataSet:
    """Stands in for `Datasets` with a data set small enough for a test."""

    def __init__(self) -> None:
        self.data = ImageData("fashion-mnist", ("a", "b", "c"), *_stripes(960, 1), *_stripes(2100, 2))

    def load(self, name: str) -> ImageData:
        assert name == "fashion-mnist"
        return self.data


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    return Zoo(tmp_path / "zoo", OneDataSet())


def test_a_model_is_trained_once_and_its_backdoors_are_in(zoo: Zoo) -> None:
    epochs: list[int] = []
    record = zoo.record(PATCHED, lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert record["acc"] > 0.9
    assert [rate["target"] for rate in record["attacks"]] == [1, 2]
    assert record["asr"] == pytest.approx(sum(rate["asr"] for rate in record["attacks"]) / 2)
    assert record["asr"] > EMBEDDED
    assert record["ra"] < 1 - record["asr"] + 1e-6
    model = zoo.get(PATCHED, lambda epoch, _: epochs.append(epoch))
    assert len(epochs) == 6
    test = zoo.datasets.load("fashion-mnist").part("validation-test")
    answers = model.target_log_posterior(test.pixels).argmax(1)
    assert float((answers == test.labels).float().mean()) == pytest.approx(record["acc"])


def test_two_at_once_train_once(zoo: Zoo) -> None:
    together, trained = Barrier(2), []

    def ask(who: int) -> float:
        together.wait()
        return float(zoo.record(CLEAN, lambda *_: trained.append(who))["acc"])

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(ask, range(2))
    assert first == second
    assert len(trained) == CLEAN.epochs
    assert len(set(trained)) == 1


def test_what_was_interrupted_is_trained_again(zoo: Zoo) -> None:
    def stop(epoch: int, _: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        zoo.record(CLEAN, stop)
    assert not zoo.has(CLEAN)
    (zoo.folder / f"{CLEAN.name}-{CLEAN.digest[:10]}.json").write_text("half a rec")
    assert zoo.record(CLEAN)["truth"] == "clean"
    assert zoo.has(CLEAN)


@pytest.mark.parametrize(
    "change",
    [
        lambda: replace(CLEAN, epochs=4),
        lambda: replace(CLEAN, seed=106),
        lambda: replace(CLEAN, attack=ATTACK),
        lambda: replace(CLEAN, attack=replace(ATTACK, ratio=0.31)),
        lambda: replace(CLEAN, attack=replace(ATTACK, clean_label=True)),
        lambda: replace(CLEAN, optimizer="adamw"),
        lambda: replace(CLEAN, hold_out=True),
    ],
)
def test_the_digest_changes_with_the_recipe(change: Callable[[], Recipe]) -> None:
    assert change().digest != CLEAN.digest
    assert change().digest == change().digest


def test_later_fields_are_silent_while_they_have_their_defaults() -> None:
    assert "hold_out" not in CLEAN.to_json()
    assert "covers" not in describe(ATTACK)
    assert replace(CLEAN, hold_out=True).to_json()["hold_out"] is True


def test_the_examples_follow_from_their_recipes() -> None:
    written = json.loads((ROOT / "examples/fashion-mnist/provenance.json").read_text())["models"]
    assert {each.name: json.loads(json.dumps(each.to_json())) for each in EXAMPLES} == {
        name: record["recipe"] for name, record in written.items()
    }


def test_unknown_names_are_refused() -> None:
    for arguments in (("mnist", "preact", None), ("cifar10", "lenet", None), ("cifar10", "preact", "voodoo")):
        with pytest.raises(KeyError):
            recipe(*arguments, 1)
