"""What every published defence in the benchmark keeps to, over a tiny planted model."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from core.baselines.clip.contrast import Schedule
from core.baselines.protocol import DETECTORS, PURIFIERS, Detected, Purified
from core.baselines.registry import BUILT_IN
from core.config import Preprocess
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.errors import CanceledError, UnsupportedError
from core.evaluation.metrics import accuracy, triggered_rates
from core.models.classifier import Classifier
from core.models.clip.adapter import ClipAdapter
from core.models.protocol import SuspectModel
from tests.support.checkpoints import tiny_network
from tests.support.planted import TARGET, Planted, planted, shapes, stamp

#: Budgets for a contract, not for a result.
SHORT: Mapping[str, dict[str, Any]] = {
    "ft": {"epochs": 2},
    "ft-sam": {"epochs": 2},
    "nad": {"epochs": 1, "teacher_epochs": 1},
    "anp": {"epochs": 1},
    "i-bau": {"rounds": 1, "inner_epochs": 1},
    "sau": {"epochs": 1},
    "neural-cleanse": {"steps": 10, "batch_size": 8},
    "bti-dbf": {"epochs": 1},
    "clip-ft": {"schedule": Schedule(lr=1e-3, epochs=1)},
    "cleanclip": {"schedule": Schedule(lr=1e-3, epochs=1)},
    "decree": {"steps": 10, "batch_size": 8},
}
Defence = Callable[..., Purified | Detected]


def short(name: str) -> Defence:
    registry: Any = PURIFIERS if name in PURIFIERS else DETECTORS
    shortened: Defence = dataclasses.replace(registry.get(name), **SHORT[name])
    return shortened


def state(model: SuspectModel) -> dict[str, Tensor]:
    return model.state_dict_for_export()


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[key]) for key, value in one.items())


#: These know models of images and texts only.
OF_TEXTS = ("clip-ft", "cleanclip")


def given(name: str, model: Classifier, images: ReferenceSet) -> tuple[SuspectModel, ReferenceSet]:
    """What a defence is called with: where it needs texts, the network's outputs are an embedding, its axes texts."""
    if name not in OF_TEXTS:
        return model, images
    axes = torch.eye(model.num_targets)
    suspect = ClipAdapter(model.module, axes, 10.0, model.preprocess, model.input_shape)
    return suspect, dataclasses.replace(images, texts=axes[images.labels])


@pytest.fixture(scope="module")
def victim() -> Planted:
    return planted(True)


def test_the_registries_hold_what_the_benchmark_names() -> None:
    assert set(PURIFIERS) == {"ft", "ft-sam", "nad", "anp", "i-bau", "sau", "clip-ft", "cleanclip"}
    assert set(DETECTORS) == {"neural-cleanse", "bti-dbf", "decree"}
    assert {defence.name for defence in BUILT_IN} == {*PURIFIERS, *DETECTORS}
    assert all(PURIFIERS.get(name).name == name for name in PURIFIERS)


@pytest.mark.parametrize("name", [*PURIFIERS, *DETECTORS])
def test_it_leaves_suspect_and_images_alone(name: str, victim: Planted) -> None:
    suspect, reference = given(name, victim.model, victim.reference)
    before, pixels = state(victim.model), victim.reference.pixels.clone()
    flags = [parameter.requires_grad for parameter in victim.model.trainable_parameters()]
    short(name)(suspect, reference, seed=0, ctx=RunContext())
    assert same(before, state(victim.model))
    assert torch.equal(pixels, victim.reference.pixels)
    assert not any(layer.training for layer in victim.model.module.modules())
    assert flags == [parameter.requires_grad for parameter in victim.model.trainable_parameters()]
    assert all(parameter.grad is None for parameter in victim.model.trainable_parameters())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in victim.model.module.modules())


@pytest.mark.parametrize("name", sorted(PURIFIERS))
def test_a_purified_model_is_new_and_follows_from_the_seed(name: str, victim: Planted) -> None:
    purifier, (suspect, reference) = short(name), given(name, victim.model, victim.reference)
    torch.manual_seed(1)
    one = purifier(suspect, reference, seed=3, ctx=RunContext())
    torch.manual_seed(2)
    other = purifier(suspect, reference, seed=3, ctx=RunContext())
    assert isinstance(one, Purified)
    assert isinstance(other, Purified)
    assert same(state(one.model), state(other.model))
    assert one.images == other.images >= len(victim.reference)
    assert one.model is not victim.model
    assert not any(layer.training for layer in one.model.module.modules())
    assert not any(layer._forward_hooks for layer in one.model.module.modules())
    assert all(torch.isfinite(value).all() for value in state(one.model).values())


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_a_detection_follows_from_the_seed(name: str, victim: Planted) -> None:
    one = short(name)(victim.model, victim.reference, seed=3, ctx=RunContext())
    other = short(name)(victim.model, victim.reference, seed=3, ctx=RunContext())
    assert isinstance(one, Detected)
    assert one == other
    assert one.images > 0
    assert one.target is None or one.suspicious


@pytest.mark.parametrize("name", [*PURIFIERS, *DETECTORS])
def test_it_reports_progress_and_stops_when_told(name: str, victim: Planted) -> None:
    suspect, reference = given(name, victim.model, victim.reference)
    fractions: list[float] = []
    short(name)(suspect, reference, seed=0, ctx=RunContext(lambda event: fractions.append(event["fraction"])))
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0

    asked = 0

    def soon() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(CanceledError):
        short(name)(suspect, reference, seed=0, ctx=RunContext(should_stop=soon))
    assert asked == 4


@pytest.mark.parametrize("name", [*PURIFIERS, *DETECTORS])
@pytest.mark.parametrize("network", ["timm:test_convnext", "timm:test_vit@32/8"])
def test_it_works_without_batch_normalisation(name: str, network: str) -> None:
    module = tiny_network(network, 5, 1)
    model = Classifier(module, Preprocess((0.5,), (0.5,), (32, 32)), (1, 32, 32), 5)
    pixels, labels = shapes(20, 1)
    pixels = torch.nn.functional.interpolate(pixels, (32, 32))
    images = dataclasses.replace(planted(True).reference, pixels=pixels, labels=labels)
    assert short(name)(*given(name, model, images), seed=0, ctx=RunContext()).images > 0


@pytest.mark.parametrize("name", OF_TEXTS)
def test_where_there_are_no_texts_it_says_so(name: str, victim: Planted) -> None:
    suspect, _ = given(name, victim.model, victim.reference)
    for model in (victim.model, suspect):
        with pytest.raises(UnsupportedError, match="texts"):
            short(name)(model, victim.reference, seed=0, ctx=RunContext())


def test_fine_tuning_keeps_the_accuracy(victim: Planted) -> None:
    test = shapes(200, 77)
    tuned = dataclasses.replace(PURIFIERS.get("ft"), epochs=10)(  # type: ignore[type-var]
        victim.model, victim.reference, seed=0, ctx=RunContext()
    )
    before = accuracy(victim.model.target_log_posterior, *test)
    assert accuracy(tuned.model.target_log_posterior, *test) >= before - 0.03


def test_adversarial_pruning_removes_the_planted_patch(victim: Planted) -> None:
    test = shapes(200, 77)

    def success(model: SuspectModel) -> float:
        wanted = lambda labels: torch.full_like(labels, TARGET)  # noqa: E731
        return triggered_rates(model.target_log_posterior, *test, stamp, wanted)[0]

    pruned = PURIFIERS.get("anp")(victim.model, victim.reference, seed=0, ctx=RunContext())
    assert success(victim.model) > 0.9
    assert success(pruned.model) < 0.5
    assert accuracy(pruned.model.target_log_posterior, *test) > victim.accuracy - 0.15
