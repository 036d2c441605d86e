"""Training a small CLIP, with a backdoor and without, and the repository it is kept in."""

import json
from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file

from core.attacks.clip.anchors import concept_directions
from core.attacks.clip.captions import tokenize
from core.attacks.clip.pairs import captions_of
from core.attacks.clip.towers import PREPROCESS, normalised
from core.attacks.clip.training import TrainedClip
from core.attacks.clip.zoo import WEIGHTS, ClipZoo, load_adapter, load_repository, open_repository, save_repository
from core.attacks.poisoning import Attack
from core.attacks.training import Recipe
from core.attacks.triggers import Optimised
from core.evaluation.metrics import accuracy, triggered_rates
from tests.support.tiny_clip import ATTACK, CLEAN, CONCEPTS, OneDataSet

PATCHED = replace(CLEAN, name="tiny-patched", attack=ATTACK)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> ClipZoo:
    return ClipZoo(tmp_path_factory.mktemp("zoo"), OneDataSet())


def _folder(zoo: ClipZoo, recipe: Recipe) -> Path:
    return zoo.folder / f"{recipe.name}-{recipe.digest[:10]}"


def test_concepts_are_learned_and_the_backdoor_is_in(zoo: ClipZoo) -> None:
    epochs: list[int] = []
    record = zoo.record(PATCHED, lambda epoch, _: epochs.append(epoch))
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert record["acc"] > 0.9
    assert record["retrieval"] > 0.9
    assert record["asr"] > 0.9
    assert record["parameters"] < 2_000_000
    model, reference, test = load_adapter(zoo, PATCHED, "validation")
    assert accuracy(model.target_log_posterior, test.pixels, test.labels) == record["acc"]
    trigger = ATTACK.triggers[0]
    rate, _ = triggered_rates(
        model.target_log_posterior, test.pixels, test.labels, trigger, lambda labels: torch.full_like(labels, 2)
    )
    assert rate == record["asr"]
    assert zoo.attack_of(PATCHED) == ATTACK
    assert len(reference) == 399
    assert epochs == [1, 2, 3, 4, 5, 6]


def test_a_clean_model_does_not_know_the_trigger(zoo: ClipZoo) -> None:
    record = zoo.record(CLEAN)
    assert (record["truth"], record["attacks"], record["planted"]) == ("clean", [], None)
    assert zoo.attack_of(CLEAN) is None
    model, _, test = load_adapter(zoo, CLEAN, "validation")
    rate, _ = triggered_rates(
        model.target_log_posterior,
        test.pixels,
        test.labels,
        ATTACK.triggers[0],
        lambda labels: torch.full_like(labels, 2),
    )
    assert rate < 0.5


def test_texts_are_those_of_the_images_own_captions(zoo: ClipZoo) -> None:
    model, reference, _ = load_adapter(zoo, CLEAN, "validation")
    assert reference.texts is not None
    assert torch.allclose(reference.texts.norm(dim=1), torch.ones(len(reference)), atol=1e-5)
    assert ((reference.texts @ model.anchors.T).argmax(1) == reference.labels).float().mean() > 0.95
    network, tokenizer = open_repository(_folder(zoo, CLEAN))
    tokens = tokenize(tokenizer, captions_of(reference, "validation-reference"))
    with torch.no_grad():
        first = torch.nn.functional.normalize(network.encode_text(tokens[:1]), dim=1)
    assert torch.allclose(first, reference.texts[:1], atol=1e-5)


def test_open_clip_reads_the_repository(zoo: ClipZoo) -> None:
    zoo.record(CLEAN)
    name = f"local-dir:{_folder(zoo, CLEAN)}"
    network, _, preprocess = open_clip.create_model_and_transforms(name)
    ours, tokenizer = open_repository(_folder(zoo, CLEAN))
    tokens = open_clip.get_tokenizer(name)(["a red square"])
    assert torch.equal(tokens, tokenize(tokenizer, ["a red square"]))
    pixels = torch.rand(2, 3, 32, 32)
    network.eval()
    with torch.no_grad():
        assert torch.allclose(network.encode_image(normalised(pixels)), ours.encode_image(normalised(pixels)))
        assert torch.allclose(network.encode_text(tokens), ours.encode_text(tokens))
    final = preprocess.transforms[-1]
    assert (tuple(final.mean), tuple(final.std)) == (PREPROCESS.mean, PREPROCESS.std)


def test_half_precision_is_half_the_file_and_the_same_answers(zoo: ClipZoo, tmp_path: Path) -> None:
    zoo.record(CLEAN)
    network, tokenizer = open_repository(_folder(zoo, CLEAN))
    config = json.loads((_folder(zoo, CLEAN) / "open_clip_config.json").read_text())["model_cfg"]
    save_repository(TrainedClip(network, config, None), tokenizer, tmp_path / "half", torch.float16)
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < 4_000_000
    state = load_file(tmp_path / "half" / WEIGHTS)
    assert {value.dtype for value in state.values()} == {torch.float16, torch.int64}
    half, test = (
        load_repository(tmp_path / "half", CONCEPTS),
        zoo.datasets.load("fashion-mnist").part("validation-test"),
    )
    same = zoo.get(CLEAN)
    assert (
        abs(
            accuracy(half.target_log_posterior, test.pixels, test.labels)
            - accuracy(same.target_log_posterior, test.pixels, test.labels)
        )
        < 0.01
    )


def test_an_optimised_trigger_is_planted_as_it_was_found(zoo: ClipZoo) -> None:
    attack = Attack((Optimised(3, size=6),), (1,), 0.3)
    recipe = replace(CLEAN, name="tiny-optimised", attack=attack)
    planted = zoo.attack_of(recipe)
    assert planted is not None
    trigger = planted.triggers[0]
    assert isinstance(trigger, Optimised)
    assert len(trigger.levels) == 3 * 6 * 6
    assert recipe.attack == attack
    assert zoo.record(recipe)["asr"] > 0.8
    data = zoo.datasets.load("fashion-mnist")
    stamped = trigger(data.part("validation-test").pixels[:2])
    assert torch.equal(stamped[0, :, 13:19, 13:19], stamped[1, :, 13:19, 13:19])


def test_directions_of_concepts_have_length_one(zoo: ClipZoo) -> None:
    zoo.record(CLEAN)
    network, tokenizer = open_repository(_folder(zoo, CLEAN))
    directions = concept_directions(network, tokenizer, CONCEPTS)
    assert torch.allclose(directions.norm(dim=1), torch.ones(3), atol=1e-5)
