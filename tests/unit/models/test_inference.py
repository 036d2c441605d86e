"""Finding the architecture, and saying why not."""

import pytest
import torch

from core.errors import UnsupportedError
from core.models.architectures import build, build_meta, infer
from tests.support.checkpoints import TINY, shapes_of

ZOO = [
    ("torchvision:resnet18", 10, 3, None),
    ("torchvision:resnet18", 5, 1, None),
    ("torchvision:vgg19_bn", 10, 3, None),
    ("torchvision:mobilenet_v3_small", 43, 3, None),
    ("torchvision:squeezenet1_1", 10, 3, None),
    ("torchvision:googlenet-noaux", 10, 3, None),
    ("torchvision:vit_b_16", 10, 3, (224, 224)),
    ("torchvision:vit_b_16@32", 10, 3, (32, 32)),
    ("timm:convnext_tiny", 10, 3, None),
    ("timm:resnet26", 10, 1, None),
    ("timm:test_vit", 7, 3, (160, 160)),
]


@pytest.mark.parametrize(("name", "classes", "channels", "size"), ZOO)
def test_zoo_networks_with_other_heads_and_stems(name: str, classes: int, channels: int, size: tuple[int, int]) -> None:
    inspection = infer(shapes_of(build_meta(name, classes, channels).state_dict()))
    match = inspection.match
    assert (match.name, match.num_classes, match.in_channels, match.size) == (name, classes, channels, size)
    assert inspection.source == "inferred"


@pytest.mark.parametrize(
    "requested", ["timm:convnext_atto", "convnext_atto", "convnext_atto.d2_in1k", "timm:test_vit@32"]
)
def test_by_name(requested: str) -> None:
    inspection = infer(shapes_of(build_meta(requested, 9).state_dict()), requested)
    assert inspection.source == "request"
    assert inspection.match.num_classes == 9
    assert inspection.match.name.removeprefix("timm:") == requested.removeprefix("timm:")


def test_a_bare_name_of_both_libraries_means_the_one_that_fits() -> None:
    for library in ("torchvision", "timm"):
        shapes = shapes_of(build_meta(f"{library}:convnext_tiny", 9).state_dict())
        assert infer(shapes, "convnext_tiny").match.name == f"{library}:convnext_tiny"


def test_position_tables_tell_size_and_patch() -> None:
    shapes = shapes_of(build_meta("timm:vit_tiny_patch16_224@32/4", 10).state_dict())
    match = infer(shapes).match
    assert match.name.endswith("@32/4")
    assert match.size == (32, 32)
    assert infer(shapes, "vit_tiny_patch16_224").match.name == "timm:vit_tiny_patch16_224@32/4"


def test_twins_are_listed() -> None:
    shapes = shapes_of(build_meta("torchvision:resnet18", 10).state_dict())
    assert "timm:resnetblur18" in [match.name for match in infer(shapes).alternatives]


def test_nothing_fits() -> None:
    with pytest.raises(UnsupportedError) as caught:
        infer({"a.weight": (3, 3), "b.weight": (10, 3)})
    assert caught.value.code == "unsupported_architecture"
    for word in ("preact_resnet", "torchvision and timm", "Nearest", "a.weight"):
        assert word in caught.value.detail
    assert "architecture=" in caught.value.hint


def test_nearly_fits() -> None:
    shapes = shapes_of(build_meta("resnet20", 10).state_dict())
    del shapes["bn1.weight"]
    with pytest.raises(UnsupportedError, match=r"Nearest: resnet20: 1 missing \(bn1.weight\)"):
        infer(shapes)


def test_an_unexpected_key_is_named() -> None:
    shapes = shapes_of(build_meta(TINY, 10).state_dict()) | {"secret.weight": (3, 3)}
    with pytest.raises(UnsupportedError, match=r"1 unexpected \(secret.weight\)"):
        infer(shapes)


def test_the_wrong_name() -> None:
    shapes = shapes_of(build_meta("resnet20", 10).state_dict())
    with pytest.raises(UnsupportedError, match="does not fit the architecture it is said to have"):
        infer(shapes, "preactresnet18")


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nothing",
        "hf-hub:some/model",
        "timm:hf-hub:some/model",
        "timm:local-dir:/etc",
        "timm:../x",
        "torchvision:fcn_resnet50",
        "torchvision:__init__",
        "preactresnet-b0.1-w8.8",
        "preactresnet-b1.1-w8",
        "preactresnet-b9999.9999-w8.8",
        "resnet21",
        "wrn-15-1",
        "cifar_vgg12",
        "cifar_vgg16-h9:0.2",
        "timm:resnet18@32",
        "torchvision:resnet18@32",
        "torchvision:resnet18-noaux",
    ],
)
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        build(name, 10)
    assert caught.value.code == "unsupported_architecture"
    with pytest.raises(UnsupportedError):
        infer({"a.weight": (3, 3)}, name)


@pytest.mark.parametrize(("classes", "channels", "code"), [(1, 3, "num_classes"), (10, 4, "input_channels")])
def test_limits(classes: int, channels: int, code: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        infer(shapes_of(build_meta(TINY, classes, channels).state_dict()))
    assert caught.value.code == f"unsupported_{code}"


def test_building_on_meta_takes_no_memory() -> None:
    module = build_meta("wrn-28-10", 10)
    assert all(tensor.is_meta for tensor in module.state_dict().values())
    assert torch.get_default_device().type == "cpu"
