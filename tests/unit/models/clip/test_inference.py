"""What the shapes of a lone checkpoint say, and what they do not."""

import open_clip
import pytest
import torch

from core.errors import UnsupportedError
from core.models.architectures.base import Shapes
from core.models.clip.inference import infer_clip, is_clip
from tests.support.clip_layouts import lone_config, network_config, network_of


def _published(name: str) -> Shapes:
    config = open_clip.get_model_config(name)
    assert config is not None
    with torch.device("meta"):
        network = (open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP)(**config)
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


@pytest.mark.parametrize("name", ["ViT-B-32", "RN50", "RN50x4", "ViT-L-14-336", "ViT-H-14"])
def test_published_networks(name: str) -> None:
    """Also those whose heads are not 64 wide."""
    shapes = _published(name)
    config = open_clip.get_model_config(name)
    assert config is not None
    found = infer_clip(shapes)
    assert [blueprint.options["quick_gelu"] for blueprint in found] == [False, True]
    images, texts = found[0].options["vision_cfg"], found[0].options["text_cfg"]
    assert found[0].image_size == (config["vision_cfg"]["image_size"],) * 2
    assert images["layers"] == config["vision_cfg"]["layers"]
    assert images["head_width"] == config["vision_cfg"].get("head_width", 64)
    assert texts["heads"] == config["text_cfg"]["heads"]
    [named] = infer_clip(shapes, f"open_clip:{name}")
    assert named.image_size == found[0].image_size


def test_a_name_that_does_not_fit_or_is_none() -> None:
    shapes = _published("RN50")
    for name in ("open_clip:ViT-B-32", "open_clip:nothing", "resnet18"):
        with pytest.raises(UnsupportedError) as caught:
            infer_clip(shapes, name)
        assert caught.value.code == "unsupported_architecture"


def test_heads_that_are_not_in_the_weights_are_asked_for() -> None:
    shapes = {key: tuple(v.shape) for key, v in network_of(network_config(text_cfg={"width": 48})).state_dict().items()}
    with pytest.raises(UnsupportedError, match="heads") as caught:
        infer_clip(shapes)
    assert "open_clip_config.json" in caught.value.hint


@pytest.mark.parametrize(
    "lost", ["visual.proj", "text_projection", "visual.ln_post.weight", "visual.positional_embedding", "logit_scale"]
)
def test_half_a_model_is_refused(lost: str) -> None:
    shapes = {key: tuple(value.shape) for key, value in network_of(lone_config()).state_dict().items()}
    assert is_clip(shapes)
    del shapes[lost]
    with pytest.raises(UnsupportedError) as caught:
        infer_clip(shapes)
    assert caught.value.code == "unsupported_architecture"


def test_numbers_that_old_files_hold_beside_the_weights() -> None:
    shapes = {key: tuple(value.shape) for key, value in network_of(lone_config()).state_dict().items()}
    beside: Shapes = {"input_resolution": (), "context_length": (), "vocab_size": ()}
    assert infer_clip({**shapes, **beside})


def test_classifiers_are_no_clip() -> None:
    assert not is_clip({"conv1.weight": (64, 3, 7, 7), "fc.weight": (10, 512), "visual": (1,)})
