"""The adapter over a tiny open_clip network."""

import open_clip
import pytest
import torch
from torch import Tensor

from core.config import Preprocess
from core.models.clip.adapter import ClipAdapter
from core.models.clip.towers import OpenClipImageTower
from core.models.protocol import SuspectModel

PREPROCESS = Preprocess((0.5, 0.4, 0.3), (0.2, 0.2, 0.2), (32, 32))


def network() -> open_clip.CLIP:
    torch.manual_seed(0)
    vision = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 8, "image_size": 32}
    text = {"context_length": 8, "vocab_size": 50, "width": 32, "heads": 2, "layers": 1}
    built: open_clip.CLIP = open_clip.CLIP(16, vision, text).eval()
    return built


def anchors() -> Tensor:
    return torch.randn(5, 16, generator=torch.Generator().manual_seed(1))


def adapter(whole: open_clip.CLIP) -> ClipAdapter:
    return ClipAdapter(OpenClipImageTower(whole), anchors(), whole.logit_scale.exp().item(), PREPROCESS, (3, 32, 32))


def test_answers_like_the_network() -> None:
    whole = network()
    suspect = adapter(whole)
    assert isinstance(suspect, SuspectModel)
    pixels = torch.rand(4, 3, 32, 32)
    embedding = whole.encode_image(suspect.normalise(pixels), normalize=True)
    directions = torch.nn.functional.normalize(anchors(), dim=1)
    wanted = torch.log_softmax(whole.logit_scale.exp() * embedding @ directions.T, 1)
    log_posterior, features = suspect.posterior_and_features(pixels)
    torch.testing.assert_close(log_posterior, wanted)
    torch.testing.assert_close(features, embedding)
    torch.testing.assert_close(log_posterior.exp().sum(1), torch.ones(4))


def test_exports_the_networks_own_keys_and_copies_the_image_tower_only() -> None:
    whole = network()
    suspect = adapter(whole)
    state = suspect.state_dict_for_export()
    assert set(state) == {key for key in whole.state_dict() if key.startswith("visual.")}
    twin = suspect.clone()
    with torch.no_grad():
        twin.trainable_parameters()[0].add_(1.0)
    assert twin.anchors is suspect.anchors
    torch.testing.assert_close(suspect.state_dict_for_export(), state)
    assert not torch.equal(twin.trainable_parameters()[0], suspect.trainable_parameters()[0])


@pytest.mark.parametrize("rows", [torch.ones(1, 16), torch.ones(16)])
def test_one_direction_is_no_choice(rows: Tensor) -> None:
    with pytest.raises(ValueError, match="two directions"):
        ClipAdapter(OpenClipImageTower(network()), rows, 10.0, PREPROCESS, (3, 32, 32))
