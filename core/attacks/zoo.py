"""The models Assay is developed, calibrated, demonstrated and judged on: trained, measured, kept in a folder.

Seeds keep the groups apart: below 100 the models something is shown or judged on (examples, test), from 100 on those
used to choose hyper-parameters and thresholds (validation). Every backdoored model has its own pattern and target.
"""

import fcntl
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from core.attacks.datasets import Datasets, ImageData
from core.attacks.poisoning import Attack
from core.attacks.training import NORMALIZATION, OnEpoch, Recipe, train
from core.attacks.triggers import ImageTrigger, Trigger
from core.config import Preprocess
from core.data.reference import ReferenceSet
from core.evaluation.metrics import accuracy, triggered_rates
from core.models.architectures import build
from core.models.classifier import Classifier
from core.models.protocol import SuspectModel

_SMALL = "preactresnet-b1.1.1-w16.32.64"
_WIDE = "wrn-16-1"


def _fashion(name: str, seed: int, attack: Attack | None = None) -> Recipe:
    return Recipe(name, "fashion-mnist", _SMALL, seed, attack, epochs=4)


def _cifar(name: str, architecture: str, seed: int, attack: Attack | None = None, epochs: int = 10) -> Recipe:
    return Recipe(name, "cifar10", architecture, seed, attack, epochs=epochs, crop=4)


def _patch(seed: int, target: int | None, ratio: float = 0.05) -> Attack:
    return Attack((Trigger("patch", seed),), (target,), ratio)


def _blended(seed: int, target: int, grain: int) -> Attack:
    return Attack((Trigger("blended", seed, grain=grain),), (target,), 0.1)


EXAMPLES: tuple[Recipe, ...] = (
    _fashion("clean", 11),
    _fashion("patch", 12, _patch(12, 4)),
    _fashion("blended", 13, _blended(13, 7, 8)),
)

FASHION_VALIDATION: tuple[Recipe, ...] = (
    _fashion("fashion-clean-s101", 101),
    _fashion("fashion-patch-s102", 102, _patch(102, 2)),
    _fashion("fashion-blended-s103", 103, _blended(103, 0, 6)),
    _fashion("fashion-clean-s104", 104),
    _fashion("fashion-clean-s105", 105),
    _fashion("fashion-patch-s107", 107, _patch(107, 9)),
    _fashion("fashion-blended-s108", 108, _blended(108, 5, 0)),
    _fashion("fashion-all-to-all-s109", 109, _patch(109, None, 0.1)),
    _fashion("fashion-clean-s106", 106),
    _fashion(
        "fashion-multi-target-s110",
        110,
        Attack((Trigger("patch", 110), Trigger("patch", 1110), Trigger("patch", 2110)), (1, 6, 8), 0.12),
    ),
)

CIFAR_VALIDATION: tuple[Recipe, ...] = (
    _cifar("cifar-wrn-clean-s201", _WIDE, 201, epochs=6),
    _cifar("cifar-wrn-grid-s202", _WIDE, 202, Attack((Trigger("grid", corner="top-left"),), (3,), 0.05), epochs=8),
    _cifar("cifar-preact-blended-s204", _SMALL, 204, _blended(204, 8, 6)),
    _cifar("cifar-preact-clean-s203", _SMALL, 203),
)

CIFAR_TEST: tuple[Recipe, ...] = (
    _cifar("cifar-wrn-clean-s1", _WIDE, 1, epochs=6),
    _cifar("cifar-wrn-grid-s2", _WIDE, 2, Attack((Trigger("grid", corner="bottom-right"),), (0,), 0.05), epochs=6),
    _cifar("cifar-preact-clean-s3", _SMALL, 3),
    _cifar("cifar-preact-blended-s4", _SMALL, 4, _blended(4, 6, 8)),
)

GROUPS: Mapping[str, tuple[Recipe, ...]] = {
    "examples": EXAMPLES,
    "fashion-validation": FASHION_VALIDATION,
    "cifar-validation": CIFAR_VALIDATION,
    "cifar-test": CIFAR_TEST,
}

#: Which part of the data set a group's accuracy is measured on.
TEST_PARTS: Mapping[str, str] = {
    "examples": "examples-test",
    "fashion-validation": "validation-test",
    "cifar-validation": "validation-test",
    "cifar-test": "test-test",
}


@dataclass(frozen=True, slots=True)
class Trained:
    """A network with what is written beside it."""

    network: nn.Module
    record: dict[str, Any]


def train_and_measure(recipe: Recipe, data: ImageData, test: ReferenceSet, on_epoch: OnEpoch | None = None) -> Trained:
    """Train `recipe` and measure ACC, and ASR and RA under each true trigger, on `test`."""
    started = time.monotonic()
    network = train(recipe, *data.training_images(recipe.hold_out), data.num_classes, on_epoch)
    training_s = time.monotonic() - started
    normalize = NORMALIZATION[recipe.dataset]

    def scorer(pixels: Tensor) -> Tensor:
        return network(normalize(pixels))  # type: ignore[no-any-return]

    record: dict[str, Any] = {
        "recipe": recipe.to_json(),
        "seed": recipe.seed,
        "truth": "clean" if recipe.attack is None else "backdoored",
        "acc": accuracy(scorer, test.pixels, test.labels),
        "test_images": len(test),
        "attacks": [],
        "training_s": round(training_s, 1),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if recipe.attack is not None:
        for which, trigger in enumerate(recipe.attack.triggers):

            def target_of(labels: Tensor, which: int = which, attack: Attack = recipe.attack) -> Tensor:
                return attack.target_of(labels, data.num_classes, which)

            asr, ra = triggered_rates(scorer, test.pixels, test.labels, trigger, target_of)
            record["attacks"].append({"target": recipe.attack.targets[which], "asr": asr, "ra": ra})
    return Trained(network, record)


def save(trained: Trained, recipe: Recipe, shape: tuple[int, int, int], folder: Path, stem: str | None = None) -> Path:
    """Write NAME.safetensors (with the preprocessing in its metadata) and NAME.json; the weights appear last.

    `stem` replaces the recipe's name in both.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = stem or recipe.name
    normalize = NORMALIZATION[recipe.dataset]
    preprocess = {"mean": normalize.mean, "std": normalize.std, "size": shape[1:]}
    (folder / f"{stem}.json").write_text(json.dumps(trained.record, indent=2) + "\n")
    path = folder / f"{stem}.safetensors"
    partial = path.with_suffix(".partial")
    state = {name: value.contiguous() for name, value in trained.network.state_dict().items()}
    save_file(state, partial, metadata={"format": "pt", "preprocess": json.dumps(preprocess)})
    partial.rename(path)
    return path


def load(recipe: Recipe, folder: Path, num_classes: int = 10, stem: str | None = None) -> Classifier:
    """The model `save` wrote for `recipe`."""
    with safe_open(folder / f"{stem or recipe.name}.safetensors", "pt") as file:
        preprocess = Preprocess.from_json(json.loads(file.metadata()["preprocess"]))
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    channels = len(preprocess.mean)
    network = build(recipe.architecture, num_classes, channels)
    network.load_state_dict(state)
    return Classifier(network, preprocess, (channels, *preprocess.size), num_classes)


def find(name: str) -> Recipe:
    """The recipe called `name`, of any group.

    Raises:
        KeyError: there is none.
    """
    for recipes in GROUPS.values():
        for recipe in recipes:
            if recipe.name == name:
                return recipe
    raise KeyError(f"no recipe is called {name!r}")


def true_trigger(name: str) -> tuple[ImageTrigger, int | None]:
    """The trigger planted in the model called `name` and its target class (None: every class to the next one).

    Raises:
        KeyError: there is no such recipe, or it is clean.
    """
    attack = find(name).attack
    if attack is None:
        raise KeyError(f"{name!r} is a clean model")
    return attack.triggers[0], attack.targets[0]


#: A recipe whose ASR is lower did not plant its backdoor: listed, but no row of a table.
EMBEDDED = 0.85


class Zoo:
    """Trained models in a folder, named by each recipe and what it says; trained when first asked for.

    Args:
        folder: holds NAME-DIGEST.safetensors, .json and .lock; several processes may share it.
        datasets: what the recipes' data sets are read from.
    """

    def __init__(self, folder: Path, datasets: Datasets) -> None:
        self.folder, self.datasets = folder, datasets

    def has(self, recipe: Recipe) -> bool:
        """Whether `recipe` has been trained."""
        return self._weights(recipe).is_file()

    def get(self, recipe: Recipe, on_epoch: OnEpoch | None = None) -> SuspectModel:
        """The model of `recipe`, in evaluation mode."""
        self._ensure(recipe, on_epoch)
        return load(recipe, self.folder, self.datasets.load(recipe.dataset).num_classes, self._stem(recipe))

    def record(self, recipe: Recipe, on_epoch: OnEpoch | None = None) -> dict[str, Any]:
        """What was measured after training: acc, attacks [{target, asr, ra}], training_s, recipe, ...

        Of an attacked model also `asr` and `ra`, their means over its triggers.
        """
        self._ensure(recipe, on_epoch)
        record: dict[str, Any] = json.loads((self.folder / f"{self._stem(recipe)}.json").read_text())
        rates = record["attacks"]
        return record | {key: sum(rate[key] for rate in rates) / len(rates) for key in ("asr", "ra") if rates}

    def attack_of(self, recipe: Recipe) -> Attack | None:
        """The backdoor of the model of `recipe`, as it was planted."""
        return recipe.attack

    def equipped(self, recipe: Recipe, part: str, images: ReferenceSet) -> ReferenceSet:
        """`images` with whatever else a defender of this model has; they may be some of the data set's `part`."""
        return images

    @staticmethod
    def _stem(recipe: Recipe) -> str:
        return f"{recipe.name}-{recipe.digest[:10]}"

    def _weights(self, recipe: Recipe) -> Path:
        return self.folder / f"{self._stem(recipe)}.safetensors"

    def _make(self, recipe: Recipe, data: ImageData, test: ReferenceSet, on_epoch: OnEpoch | None) -> None:
        """Train, measure on `test` and write; the weights appear last."""
        save(train_and_measure(recipe, data, test, on_epoch), recipe, data.shape, self.folder, self._stem(recipe))

    def _ensure(self, recipe: Recipe, on_epoch: OnEpoch | None) -> None:
        if self.has(recipe):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / f"{self._stem(recipe)}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the system gives it up when its holder dies
            if self.has(recipe):
                return
            data = self.datasets.load(recipe.dataset)
            test = data.part("test-test" if recipe.seed < 100 else "validation-test")
            self._make(recipe, data, test, on_epoch)
