"""Fields of configurations: taken from closed lists, everything else refused or listed."""

from typing import Any

import pytest

from core.errors import InvalidInputError
from core.models.clip.blueprint import ClipBlueprint
from tests.support.clip_keymap import transformers_config
from tests.support.clip_layouts import network_config

OPEN_CLIP = network_config()
TRANSFORMERS = {"model_type": "clip", **transformers_config(OPEN_CLIP, 5)}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"embed_dim": None}, "invalid_config"),
        ({"embed_dim": "x"}, "invalid_config"),
        ({"vision_cfg": []}, "invalid_config"),
        ({"multimodal_cfg": {}}, "unsupported_config"),
        ({"vision_cfg": {"layers": 10_000}}, "unsupported_config"),
        ({"vision_cfg": {"checkpoint_path": "/etc/passwd"}}, "unsupported_config"),
        ({"vision_cfg": {"timm_model_name": "hf-hub:a/b"}}, "unsupported_architecture"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "unsupported_text_model"),
        ({"text_cfg": {"norm_kwargs": {"device": "cuda"}}}, "unsupported_config"),
    ],
)
def test_open_clip_configurations_that_are_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ClipBlueprint.checked(
            "open_clip",
            network_config(**changes)
            if "vision_cfg" not in changes or isinstance(changes["vision_cfg"], dict)
            else OPEN_CLIP | changes,
            "c.json",
        )
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_type": "blip"}, "unsupported_architecture"),
        ({"vision_config": [1]}, "invalid_config"),
        ({"vision_config": {"num_channels": 4}}, "unsupported_config"),
        ({"text_config": {"vocab_size": 10**9}}, "unsupported_config"),
        ({"text_config": {"hidden_act": "evil"}}, "unsupported_config"),
    ],
)
def test_transformers_configurations_that_are_refused(changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ClipBlueprint.checked("transformers", TRANSFORMERS | changes, "config.json")
    assert caught.value.code == code


def test_old_files_say_a_tower_twice_and_the_second_place_counts() -> None:
    config = TRANSFORMERS | {"vision_config_dict": {"hidden_act": "gelu_new"}, "text_config_dict": None}
    blueprint, ignored = ClipBlueprint.checked("transformers", config | {"surprise": 1}, "config.json")
    assert blueprint.options["vision_config"]["hidden_act"] == "gelu_new"
    assert blueprint.options["vision_config"]["hidden_size"] == OPEN_CLIP["vision_cfg"]["width"]
    assert ignored == ("surprise",)


@pytest.mark.parametrize(("library", "config"), [("open_clip", OPEN_CLIP), ("transformers", TRANSFORMERS)])
def test_blueprints_are_checked_again_after_their_way(library: Any, config: dict[str, Any]) -> None:
    blueprint, _ = ClipBlueprint.checked(library, config, "c.json")
    assert ClipBlueprint.from_json(blueprint.to_json()) == blueprint
    with pytest.raises(InvalidInputError):
        ClipBlueprint.from_json(blueprint.to_json() | {"options": {}})


def test_the_tokenizer_is_told_to_do_what_is_not_done_here() -> None:
    for changes in ({"tokenizer_mode": "clips"}, {"tokenizer_kwargs": {"language": "en"}}, {"tokenizer_kwargs": "x"}):
        config = network_config(text_cfg=changes)
        blueprint, _ = ClipBlueprint.checked("open_clip", config, "c.json")
        assert blueprint.tokenizer_rules(config).unusual
