"""What holds for every network that is built from a configuration."""

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file
from torch import nn

from core.config import Preprocess
from core.errors import AssayError, UnsupportedError
from core.models.architectures import timm_configs, transformers_zoo
from core.models.architectures.blueprint import Blueprint
from core.models.architectures.transformers_table import ENTRIES
from core.models.classifier import Classifier
from core.models.loading_parts import freeze_unused, load_strictly
from core.models.stages import stage_ends, watching
from tests.support.repositories import TIMM, TRANSFORMERS, timm_network, transformers_network

CLASSES = 7
TRANSFORMERS_CLASSES = [(kind, name) for kind, entry in ENTRIES.items() for name in entry.models]


def _blueprint(folder: Path, kind: str) -> Blueprint:
    config = json.loads((folder / "config.json").read_text())
    checked = transformers_zoo.check_config(kind, config, "config.json")
    assert checked.ignored == ()
    variant = transformers_zoo.choose_class(kind, config["architectures"])
    return Blueprint("transformers", kind, variant, checked.taken, CLASSES, 3)


def _check_engine_view(module: nn.Module, size: tuple[int, int], expected: torch.Tensor, images: torch.Tensor) -> None:
    with torch.no_grad():
        assert torch.allclose(module(images), expected, atol=1e-5)
    model = Classifier(module, Preprocess((0.0,) * 3, (1.0,) * 3, size), (3, *size), CLASSES)
    pixels = images.clone().requires_grad_(True)
    log_posterior, features = model.posterior_and_features(pixels)
    assert torch.allclose(log_posterior, torch.log_softmax(expected, 1), atol=1e-5)
    assert features.shape[0] == len(images)
    assert features.dim() == 2
    (gradient,) = torch.autograd.grad(log_posterior[:, 0].sum(), pixels)
    assert gradient.abs().sum() > 0
    freeze_unused(module, module(images))
    assert torch.autograd.grad(model.target_log_posterior(images)[:, 0].sum(), model.trainable_parameters())
    ends = stage_ends(model)
    assert 1 <= len(ends) <= 3
    twin = model.clone()
    with watching(twin.module, ends) as outputs:
        twin.target_log_posterior(images)
    assert set(outputs) == set(ends)
    assert all(len(output) == len(images) for output in outputs.values())


def test_every_type_of_transformers_is_tried() -> None:
    assert TRANSFORMERS.keys() == ENTRIES.keys()


@pytest.mark.parametrize(("kind", "name"), TRANSFORMERS_CLASSES)
def test_transformers(kind: str, name: str, tmp_path: Path) -> None:
    original = transformers_network(kind, CLASSES, class_name=name)
    original.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    blueprint = _blueprint(tmp_path, kind)
    again = Blueprint.from_json(json.loads(json.dumps(blueprint.to_json())))
    assert again == blueprint

    module = blueprint.build_meta()
    names = blueprint.network_keys(module, weights)
    match = blueprint.inspect(module, {names[key]: tuple(value.shape) for key, value in weights.items()}).match
    assert (match.num_classes, match.in_channels) == (CLASSES, 3)

    built = again.build().eval()
    load_strictly(built, {names[key]: value for key, value in weights.items()})
    size = match.size or (64, 64)
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        expected = original(pixel_values=images).logits
    _check_engine_view(built, size, expected, images)


@pytest.mark.parametrize("name", TIMM)
def test_timm(name: str) -> None:
    original, arguments = timm_network(name, CLASSES)
    blueprint = Blueprint("timm", name, "", timm_configs.check_arguments(arguments, "config.json"), CLASSES, 3)
    again = Blueprint.from_json(json.loads(json.dumps(blueprint.to_json())))
    state = original.state_dict()
    match = again.inspect(again.build_meta(), {key: tuple(value.shape) for key, value in state.items()}).match
    assert match.num_classes == CLASSES
    built = again.build().eval()
    load_strictly(built, state)
    size = match.size or (64, 64)
    images = torch.rand(2, 3, *size)
    with torch.no_grad():
        expected = original(images)
    _check_engine_view(built, size, expected, images)


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("vit", {"hidden_size": 10**6}, "unsupported_config"),
        ("vit", {"hidden_size": "768"}, "invalid_config"),
        ("vit", {"hidden_size": True}, "invalid_config"),
        ("vit", {"num_hidden_layers": 10_000}, "unsupported_config"),
        ("vit", {"image_size": 10**5}, "unsupported_config"),
        ("vit", {"hidden_act": "__import__('os')"}, "unsupported_config"),
        ("swin", {"depths": [2] * 100}, "unsupported_config"),
        ("swin", {"depths": 2}, "invalid_config"),
        ("resnet", {"layer_type": "other"}, "unsupported_config"),
        ("bert", {}, "unsupported_architecture"),
        ("../vit", {}, "unsupported_architecture"),
    ],
)
def test_a_configuration_outside_the_limits_is_refused(kind: str, fields: dict[str, Any], code: str) -> None:
    with pytest.raises(AssayError) as caught:
        transformers_zoo.check_config(kind, fields, "config.json")
    assert caught.value.code == code
    assert caught.value.hint


def test_fields_nobody_knows_are_ignored_and_listed() -> None:
    checked = transformers_zoo.check_config("vit", {"hidden_size": 32, "surprise": 1, "dtype": "float32"}, "c")
    assert (checked.taken, checked.ignored) == ({"hidden_size": 32}, ("surprise",))


def test_fields_that_contradict_each_other_are_refused_when_it_is_built() -> None:
    blueprint = Blueprint("transformers", "bit", "BitForImageClassification", {"hidden_sizes": [10] * 4}, 3, 3)
    with pytest.raises(UnsupportedError) as caught:
        blueprint.build()
    assert caught.value.code == "unsupported_config"


def test_another_class_than_a_classifier_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="ViTForMaskedImageModeling"):
        transformers_zoo.choose_class("vit", ["ViTForMaskedImageModeling"])


@pytest.mark.parametrize("arguments", [{"pretrained": True}, {"checkpoint_path": "x"}, {"norm_layer": "x"}])
def test_timm_arguments_that_are_not_listed_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError) as caught:
        timm_configs.check_arguments(arguments, "config.json")
    assert caught.value.code == "unsupported_config"
    assert next(iter(arguments)) in caught.value.detail


@pytest.mark.parametrize("name", ["hf-hub:a/b", "resnet18.a1_in1k", "no_such_network", "../resnet18"])
def test_names_that_timm_would_fetch_or_does_not_have_are_refused(name: str) -> None:
    with pytest.raises(UnsupportedError):
        timm_configs.check_name(name, "config.json")


def test_channels_can_be_turned_round() -> None:
    options = TRANSFORMERS["resnet"]
    torch.manual_seed(0)
    straight = Blueprint("transformers", "resnet", "ResNetForImageClassification", options, 3, 3).build().eval()
    turned = Blueprint("transformers", "resnet", "ResNetForImageClassification", options, 3, 3, bgr=True).build().eval()
    load_strictly(turned, straight.state_dict())
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(turned(images), straight(images.flip(1)))


def test_the_libraries_are_those_that_are_installed() -> None:
    for entry in ENTRIES.values():
        assert hasattr(transformers, entry.config)
        assert all(hasattr(transformers, name) for name in entry.models)
    assert all(timm.is_model(name) for name in TIMM)
