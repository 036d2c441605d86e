"""Small CLIPs in a folder, each an open_clip repository of its own with the record of its training beside it."""

import json
import platform
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from open_clip import CLIP
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from core.attacks.clip.anchors import concept_directions, text_directions
from core.attacks.clip.captions import caption_words, save_tokenizer, word_tokenizer
from core.attacks.clip.pairs import captions_of
from core.attacks.clip.towers import PREPROCESS
from core.attacks.clip.training import TrainedClip, train_clip
from core.attacks.datasets import CIFAR10_CLASSES, FASHION_CLASSES, ImageData
from core.attacks.described import describe
from core.attacks.kinds import attack_from_json
from core.attacks.poisoning import Attack
from core.attacks.procedural import SCENES
from core.attacks.training import OnEpoch, Recipe
from core.attacks.zoo import Zoo
from core.data.reference import ReferenceSet
from core.evaluation.metrics import accuracy, triggered_rates
from core.evaluation.utility import retrieval
from core.models.clip.adapter import ClipAdapter
from core.models.clip.towers import OpenClipImageTower

WEIGHTS, CONFIG = "open_clip_model.safetensors", "open_clip_config.json"


@cache
def zoo_tokenizer() -> Tokenizer:
    """The tokenizer of every model here; it knows the concepts of all data sets."""
    return word_tokenizer(caption_words((*SCENES, *FASHION_CLASSES, *CIFAR10_CLASSES)))


class ClipZoo(Zoo):
    """A `Zoo` whose recipes have architectures "clip-...": NAME-DIGEST/ is the repository, NAME-DIGEST.json the record.

    Args:
        folder: as in `Zoo`.
        datasets: a `pairs.PairDatasets`.
    """

    def get(self, recipe: Recipe, on_epoch: OnEpoch | None = None) -> ClipAdapter:
        """The model of `recipe`; its targets are the concepts of its data set."""
        self._ensure(recipe, on_epoch)
        return load_repository(self.folder / self._stem(recipe), self.datasets.load(recipe.dataset).class_names)

    def attack_of(self, recipe: Recipe) -> Attack | None:
        """See `Zoo`: an optimised trigger is known only once it has been planted."""
        planted = self.record(recipe)["planted"]
        return None if planted is None else attack_from_json(planted)

    def equipped(self, recipe: Recipe, part: str, images: ReferenceSet) -> ReferenceSet:
        """`images` with the directions of captions of their own."""
        self._ensure(recipe, None)
        network, tokenizer = open_repository(self.folder / self._stem(recipe))
        return replace(images, texts=text_directions(network, tokenizer, captions_of(images, part)))

    def _weights(self, recipe: Recipe) -> Path:
        return self.folder / self._stem(recipe) / WEIGHTS

    def _make(self, recipe: Recipe, data: ImageData, test: ReferenceSet, on_epoch: OnEpoch | None) -> None:
        started = time.monotonic()
        tokenizer = zoo_tokenizer()
        trained = train_clip(recipe, data, tokenizer, on_epoch)
        record = measure_clip(recipe, trained, tokenizer, data, test)
        record["training_s"] = round(time.monotonic() - started, 1)
        (self.folder / f"{self._stem(recipe)}.json").write_text(json.dumps(record, indent=2) + "\n")
        save_repository(trained, tokenizer, self.folder / self._stem(recipe))


def measure_clip(
    recipe: Recipe, trained: TrainedClip, tokenizer: Tokenizer, data: ImageData, test: ReferenceSet
) -> dict[str, Any]:
    """The record of a model: zero-shot ACC, ASR and RA under each trigger, retrieval recall, what was planted."""
    model = _adapter(trained.network, concept_directions(trained.network, tokenizer, data.class_names))
    texts = text_directions(trained.network, tokenizer, captions_of(test, "measured"))
    recall = retrieval(model, replace(test, texts=texts))
    record: dict[str, Any] = {
        "recipe": recipe.to_json(),
        "seed": recipe.seed,
        "truth": "clean" if trained.attack is None else "backdoored",
        "acc": accuracy(model.target_log_posterior, test.pixels, test.labels),
        "retrieval": None if recall is None else recall.before,
        "test_images": len(test),
        "attacks": [],
        "planted": describe(trained.attack),
        "parameters": sum(parameter.numel() for parameter in trained.network.parameters()),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    if (attack := trained.attack) is not None:
        for which, trigger in enumerate(attack.triggers):

            def target_of(labels: Tensor, which: int = which, attack: Attack = attack) -> Tensor:
                return attack.target_of(labels, data.num_classes, which)

            asr, ra = triggered_rates(model.target_log_posterior, test.pixels, test.labels, trigger, target_of)
            record["attacks"].append({"target": attack.targets[which], "asr": asr, "ra": ra})
    return record


def save_repository(
    trained: TrainedClip, tokenizer: Tokenizer, folder: Path, dtype: torch.dtype = torch.float32
) -> None:
    """What `open_clip.create_model_and_transforms("local-dir:FOLDER")` and `get_tokenizer` read; weights appear last.

    Args:
        trained: what to write.
        tokenizer: of its texts.
        folder: created.
        dtype: of the weights.
    """
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {
        "size": PREPROCESS.size[0],
        "mode": "RGB",
        "mean": PREPROCESS.mean,
        "std": PREPROCESS.std,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": trained.config, "preprocess_cfg": preprocess}
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    save_tokenizer(tokenizer, folder)
    state = {
        name: value.to(dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in trained.network.state_dict().items()
    }
    partial = folder / f"{WEIGHTS}.partial"
    save_file(state, partial, metadata={"format": "pt"})
    partial.rename(folder / WEIGHTS)


def open_repository(folder: Path) -> tuple[CLIP, Tokenizer]:
    """The network of `save_repository`, in float32 and in evaluation mode, and its tokenizer."""
    config = json.loads((folder / CONFIG).read_text())["model_cfg"]
    network = CLIP(**config)
    network.load_state_dict(
        {
            name: value.float() if value.is_floating_point() else value
            for name, value in load_file(folder / WEIGHTS).items()
        }
    )
    return network.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))


def load_repository(folder: Path, concepts: Sequence[str]) -> ClipAdapter:
    """The model of `save_repository` with `concepts` as its targets."""
    network, tokenizer = open_repository(folder)
    return _adapter(network, concept_directions(network, tokenizer, concepts))


def _adapter(network: CLIP, anchors: Tensor) -> ClipAdapter:
    scale = float(network.logit_scale.detach().exp())
    return ClipAdapter(OpenClipImageTower(network), anchors, scale, PREPROCESS, (3, *PREPROCESS.size))


def load_adapter(zoo: ClipZoo, recipe: Recipe, split: str) -> tuple[ClipAdapter, ReferenceSet, ReferenceSet]:
    """A model with the pairs of a defender and those to measure on, both with `texts`.

    Args:
        zoo: trains the model if it has not yet.
        recipe: of the model.
        split: "validation" or "test".
    """
    data = zoo.datasets.load(recipe.dataset)
    reference, test = (zoo.equipped(recipe, part, data.part(part)) for part in (f"{split}-reference", f"{split}-test"))
    return zoo.get(recipe), reference, test
