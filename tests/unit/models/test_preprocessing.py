"""The right normalisation is found among the usual ones."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from core.data.reference import ReferenceSet
from core.data.transforms import normalisations
from core.models.architectures import build
from core.models.preprocessing import accuracy, choose


def _images(count: int, channels: int, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Dark natural-like images; the class is where the bright spot is."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(count, channels, 16, 16, generator=generator) * 0.35
    labels = torch.arange(count) % classes
    for row, label in enumerate(labels.tolist()):
        y, x = 8 * (label // 2), 8 * (label % 2)
        pixels[row, :, y + 2 : y + 6, x + 2 : x + 6] += 0.6
    return pixels, labels


@pytest.fixture(scope="module", params=[(3, "imagenet"), (3, "half"), (1, "fashion-mnist"), (1, "identity")])
def trained(request: pytest.FixtureRequest) -> tuple[nn.Module, str, int]:
    channels, name = request.param
    torch.manual_seed(0)
    module = build("preactresnet-b1.1-w8.16" if channels == 1 else "cifar_resnet-b1.1-w8.16", 4, channels).train()
    mean, std = (torch.tensor(v).reshape(1, -1, 1, 1) for v in normalisations(channels)[name])
    pixels, labels = _images(64, channels)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    for _ in range(30):
        optimizer.zero_grad()
        cross_entropy(module((pixels - mean) / std), labels).backward()
        optimizer.step()
    for layer in module.modules():  # the statistics of the finished weights, as long training leaves them
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            layer.reset_running_stats()
    with torch.no_grad():
        module((pixels - mean) / std)
    return module.eval(), name, channels


@pytest.mark.parametrize("labelled", [True, False])
def test_the_normalisation_of_training_is_found(trained: tuple[nn.Module, str, int], labelled: bool) -> None:
    module, name, channels = trained
    pixels, labels = _images(96, channels)
    reference = ReferenceSet(pixels, labels if labelled else torch.full_like(labels, -1), labelled)
    normalisation, source = choose(module, channels, reference)
    assert normalisation == normalisations(channels)[name]
    assert name in source
    assert ("accuracy" in source) == labelled


def test_without_images_the_default_of_the_architecture() -> None:
    assert choose(build("resnet20", 10).eval(), 3, None)[0] == normalisations(3)["identity"]
    assert choose(build("torchvision:squeezenet1_1", 10).eval(), 3, None)[0] == normalisations(3)["imagenet"]
    assert choose(build("timm:test_vit", 10).eval(), 3, None)[0] == normalisations(3)["half"]


def test_networks_without_batch_normalisation() -> None:
    pixels, labels = _images(12, 3)
    normalisation, source = choose(
        build("cifar_vgg11", 4).eval(), 3, ReferenceSet(pixels.repeat(1, 1, 2, 2), labels, True)
    )
    assert normalisation in normalisations(3).values()
    assert source.startswith("reference accuracy")


def test_accuracy_counts_hits() -> None:
    reference = ReferenceSet(torch.zeros(10, 1, 2, 2), torch.arange(10) % 2, True)
    assert accuracy(lambda pixels: torch.tensor([[0.0, 1.0]]).expand(len(pixels), 2), reference) == 0.5
