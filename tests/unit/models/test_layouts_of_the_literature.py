"""Key by key: the layouts that other people's training code saves."""

import pytest

from core.models.architectures import build_meta, infer

LAYOUTS = {
    "preactresnet18": (
        "conv1.weight",
        "layer1.0.bn1.running_mean",
        "layer1.1.conv2.weight",
        "layer2.0.shortcut.0.weight",
        "layer4.1.bn2.num_batches_tracked",
        "linear.bias",
    ),
    "resnet20": ("conv1.weight", "bn1.weight", "layer1.0.conv1.weight", "layer3.2.bn2.bias", "linear.weight"),
    "resnet20-B": ("layer2.0.shortcut.0.weight", "layer2.0.shortcut.1.running_var"),
    "resnet20-fc": ("layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight", "fc.weight"),
    "cifar_resnet18": ("layer2.0.shortcut.1.weight", "layer4.1.conv2.weight", "linear.weight"),
    "wrn-16-4": (
        "block1.layer.0.bn1.weight",
        "block1.layer.0.convShortcut.weight",
        "block3.layer.1.conv2.weight",
        "bn1.running_var",
        "fc.bias",
    ),
    "wrn-16-4-meliketoy": (
        "conv1.bias",
        "layer1.0.conv2.bias",
        "layer2.0.shortcut.0.bias",
        "bn1.weight",
        "linear.bias",
    ),
    "cifar_vgg16_bn": ("features.0.weight", "features.1.running_mean", "features.41.weight", "classifier.weight"),
    "cifar_vgg16_bn-h1:512.4:512.6": ("features.40.weight", "classifier.1.weight", "classifier.6.bias"),
}
ABSENT = {
    "preactresnet18": ("bn.weight", "bn1.weight", "layer1.0.shortcut.0.weight", "layer2.0.shortcut.1.weight"),
    "resnet20": ("layer2.0.shortcut.0.weight",),
    "wrn-16-1": ("block1.layer.0.convShortcut.weight", "conv1.bias"),
    "cifar_vgg11_bn": ("classifier.0.weight",),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_keys_are_there(name: str) -> None:
    keys = build_meta(name, 10).state_dict().keys()
    assert [key for key in LAYOUTS[name] if key not in keys] == []


@pytest.mark.parametrize("name", ABSENT)
def test_keys_are_not_there(name: str) -> None:
    keys = build_meta(name, 10).state_dict().keys()
    assert [key for key in ABSENT[name] if key in keys] == []


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("preactresnet18", 11.17),
        ("resnet20", 0.27),
        ("resnet110", 1.73),
        ("wrn-28-10", 36.48),
        ("cifar_vgg16_bn", 14.73),
    ],
)
def test_as_many_parameters_as_the_papers_say(name: str, millions: float) -> None:
    count = sum(parameter.numel() for parameter in build_meta(name, 10).parameters())
    assert count / 1e6 == pytest.approx(millions, abs=0.006)


def test_checkpoints_without_counters_are_recognised() -> None:
    state = build_meta("resnet20", 10).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items() if "num_batches" not in key}
    assert infer(shapes).match.name == "resnet20"
