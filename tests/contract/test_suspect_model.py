"""What every SuspectModel keeps to, over one network of every kind."""

import math
from pathlib import Path

import pytest
import torch

from core.config import Preprocess
from core.models.architectures import build
from core.models.classifier import Classifier
from core.models.export import export_original, export_safetensors
from core.models.formats import read_checkpoint
from core.models.layout import unwrap
from core.models.loading_parts import load_strictly
from core.models.protocol import SuspectModel
from core.models.tensor_checks import check_tensors
from tests.support.checkpoints import save, tiny_network

MODELS = [
    ("preactresnet-b1.1.1-w16.32.64", 3, 32),
    ("preactresnet-b1.1-w8.16-bn", 1, 28),
    ("resnet20", 3, 32),
    ("cifar_resnet-b1.1-w8.16-bottleneck-B", 3, 32),
    ("wrn-16-1", 1, 28),
    ("wrn-10-1-meliketoy", 3, 32),
    ("cifar_vgg11_bn", 3, 32),
    ("cifar_vgg11-h1:64.4:32.6", 1, 32),
    ("torchvision:shufflenet_v2_x0_5", 3, 32),
    ("torchvision:squeezenet1_1", 3, 48),
    ("timm:test_vit", 3, 160),
    ("timm:test_convnext", 1, 32),
    ("timm:test_efficientnet", 3, 32),
]
CLASSES = 6


@pytest.fixture(params=MODELS, ids=lambda model: model[0])
def model(request: pytest.FixtureRequest) -> tuple[str, Classifier]:
    name, channels, side = request.param
    preprocess = Preprocess((0.4,) * channels, (0.3,) * channels, (side, side))
    module = tiny_network(name, CLASSES, channels)
    return name, Classifier(module, preprocess, (channels, side, side), CLASSES)


def _pixels(model: Classifier, count: int = 3) -> torch.Tensor:
    return torch.rand(count, *model.input_shape, generator=torch.Generator().manual_seed(1))


def test_it_keeps_the_protocol(model: tuple[str, Classifier]) -> None:
    _, suspect = model
    assert isinstance(suspect, SuspectModel)
    assert suspect.num_targets == CLASSES
    assert not any(layer.training for layer in suspect.module.modules())
    pixels = _pixels(suspect).requires_grad_()

    log_posterior, features = suspect.posterior_and_features(pixels)
    assert log_posterior.shape == (3, CLASSES)
    assert torch.allclose(log_posterior.exp().sum(1), torch.ones(3), atol=1e-5)
    assert features.shape[0] == 3
    assert features.dim() == 2

    # deterministic, and the same by every way
    assert torch.equal(suspect.target_log_posterior(pixels), log_posterior)
    assert torch.equal(suspect.features(pixels), features)

    # the gradient reaches the pixels, from both
    (of_posterior,) = torch.autograd.grad(log_posterior[:, 0].sum(), pixels, retain_graph=True)
    (of_features,) = torch.autograd.grad(features.square().sum(), pixels)
    assert of_posterior.abs().sum() > 0
    assert of_features.abs().sum() > 0


def test_a_clone_is_independent(model: tuple[str, Classifier]) -> None:
    _, suspect = model
    pixels = _pixels(suspect)
    before = suspect.target_log_posterior(pixels).detach()
    clone = suspect.clone()
    assert torch.equal(clone.target_log_posterior(pixels), before)
    with torch.no_grad():
        for parameter in clone.trainable_parameters():
            parameter.add_(0.1)
    assert torch.equal(suspect.target_log_posterior(pixels), before)
    assert not torch.equal(clone.target_log_posterior(pixels), before)
    assert not torch.equal(clone.features(pixels), suspect.features(pixels))


@pytest.mark.parametrize("container", ["torch-zip", "torch-legacy", "safetensors"])
def test_exports_load_strictly(model: tuple[str, Classifier], container: str, tmp_path: Path) -> None:
    name, suspect = model
    upload = save(suspect.module.state_dict(), tmp_path / "upload", container)
    raw = read_checkpoint(upload, upload.name)
    found = unwrap(raw)
    check_tensors(found.tensors)
    with torch.no_grad():
        for parameter in suspect.trainable_parameters():
            parameter.mul_(1.01)

    again = tmp_path / f"again{upload.suffix}"
    export_original(found.layout, suspect.state_dict_for_export(), again)
    reread = unwrap(read_checkpoint(again, again.name))
    assert list(reread.tensors) == list(found.tensors)
    channels, side = suspect.input_shape[0], suspect.input_shape[1]
    fresh = build(name, CLASSES, channels)
    load_strictly(fresh, reread.tensors, reread.layout.versions)
    copy = Classifier(fresh, suspect.preprocess, (channels, side, side), CLASSES)
    pixels = _pixels(suspect)
    assert torch.equal(copy.target_log_posterior(pixels), suspect.target_log_posterior(pixels))

    portable = tmp_path / "portable.safetensors"
    export_safetensors([found.layout], suspect.state_dict_for_export(), portable, {"architecture": name})
    reread = unwrap(read_checkpoint(portable, portable.name))
    load_strictly(build(name, CLASSES, channels), reread.tensors)
    assert reread.layout.metadata["architecture"] == name


def test_moving_returns_the_same_model(model: tuple[str, Classifier]) -> None:
    _, suspect = model
    assert suspect.to(torch.device("cpu")) is suspect
    assert math.prod(suspect.input_shape) == suspect.normalise(_pixels(suspect, 1)).numel()


def test_normalisation_is_per_channel() -> None:
    preprocess = Preprocess((0.1, 0.2, 0.3), (0.5, 0.25, 1.0), (32, 32))
    suspect = Classifier(tiny_network(), preprocess, (3, 32, 32), 10)
    out = suspect.normalise(torch.full((1, 3, 32, 32), 0.6))
    assert out[0, :, 0, 0].tolist() == pytest.approx([1.0, 1.6, 0.3])


@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess((0.5, 0.5), (1.0, 1.0, 1.0), (32, 32)),
        Preprocess((0.5,), (0.0,), (32, 32)),
        Preprocess((0.5,), (1.0,), (28, 28)),
    ],
)
def test_contradictions_are_refused(preprocess: Preprocess) -> None:
    with pytest.raises(ValueError, match=r"fit|positive"):
        Classifier(tiny_network(), preprocess, (3, 32, 32), 10)
