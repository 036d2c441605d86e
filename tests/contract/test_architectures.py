"""What holds for every network in the table."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from core.errors import UnsupportedError
from core.models.architectures import SplitNetwork, build, build_meta, infer
from core.models.splitting import split_for
from tests.support.checkpoints import shapes_of, tiny_network

OURS = [
    "preactresnet18",
    "preactresnet34-bn",
    "preactresnet50",
    "preactresnet-b1.1.1-w16.32.64",
    "preactresnet-b2.1-w8.24-bottleneck-bn",
    "resnet20",
    "resnet20-B",
    "resnet32",
    "resnet44",
    "resnet56-fc",
    "resnet110",
    "cifar_resnet18",
    "cifar_resnet18-fc",
    "cifar_resnet50",
    "cifar_resnet-b1.2-w8.16",
    "cifar_resnet-b1.2-w8.16-bottleneck-B",
    "wrn-16-1",
    "wrn-28-10",
    "wrn-40-2-meliketoy",
    "cifar_vgg11_bn",
    "cifar_vgg16",
    "cifar_vgg19_bn",
    "cifar_vgg16_bn-h1:512.4:512.6",
    "cifar_vgg13_bn-h0:256.2",
    "cifar_vgg11_bn-w16",
    "cifar_vgg13-w24-h0:100.2",
]
#: Without a forward pass of our own.
PATCHED = ["small_convnext-s1-b1.1.2.1-w16.32.64.64", "small_vit-i28-p4-w64-b3-h2"]
SMALL = [name for name in OURS if not name.startswith(("preactresnet34", "preactresnet50", "wrn-28", "resnet110"))]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OURS)
def test_inference_inverts_build(name: str, channels: int) -> None:
    shapes = shapes_of(build_meta(name, 7, channels).state_dict())
    match = infer(shapes).match
    assert (match.name, match.num_classes, match.in_channels, match.stem) == (name, 7, channels, "cifar")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", PATCHED)
def test_patched_networks_are_recognised_and_split(name: str, channels: int) -> None:
    module = build(name, 7, channels).eval()
    inspection = infer(shapes_of(module.state_dict()))
    assert (inspection.match.name, inspection.match.num_classes) == (name, 7)
    assert all(build(twin.name, 7, channels).load_state_dict(module.state_dict()) for twin in inspection.alternatives)
    x = torch.rand(2, channels, 28, 28)
    logits, features = split_for(module, 7)(module, x)
    assert torch.equal(logits, module(x))
    assert features.dim() == 2
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in module.modules())


@pytest.mark.parametrize(
    "name",
    [
        "small_vit-i28-p4-w64-b3-h5",
        "small_vit-i28-p4-w192-b3-h3",
        "small_convnext-s2-b1.1.2-w16.32.64",
        "cifar_vgg11_bn-w4",
    ],
)
def test_names_outside_a_family_build_nothing(name: str) -> None:
    with pytest.raises(UnsupportedError):
        build(name, 7, 1)


@pytest.mark.parametrize("name", SMALL)
def test_one_pass_gives_the_logits_and_what_the_head_sees(name: str) -> None:
    module = tiny_network(name, num_classes=5)
    x = torch.rand(2, 3, 32, 32)
    logits, features = split_for(module, 5)(module, x)
    assert logits.shape == (2, 5)
    assert features.dim() == 2
    assert torch.equal(logits, module(x))
    assert isinstance(module, SplitNetwork)
    assert torch.equal(module.forward_head(features), logits)


@pytest.mark.parametrize("name", [name for name in SMALL if "vgg" not in name])
def test_images_of_28_pixels_work(name: str) -> None:
    module = tiny_network(name, num_classes=3, in_channels=1)
    assert module(torch.rand(2, 1, 28, 28)).shape == (2, 3)


@pytest.mark.parametrize("name", ["preactresnet-b1.1.1-w16.32.64", "wrn-16-1", "resnet20", "wrn-10-1-meliketoy"])
def test_it_learns(name: str) -> None:
    torch.manual_seed(0)
    module = build(name, 4, 1).train()
    labels = torch.arange(32) % 4
    images = torch.rand(32, 1, 16, 16) * 0.2 + labels.float().reshape(-1, 1, 1, 1) / 4
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for _ in range(25):
        loss = cross_entropy(module(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
