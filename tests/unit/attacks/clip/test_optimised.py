"""A patch found on a model before it is planted in it."""

import pytest
import torch

from core.attacks.clip.anchors import concept_directions
from core.attacks.clip.captions import CONTEXT
from core.attacks.clip.optimised import optimise
from core.attacks.clip.towers import build_network, model_config, normalised
from core.attacks.clip.zoo import zoo_tokenizer
from core.attacks.described import describe
from core.attacks.kinds import trigger_from_json
from core.attacks.poisoning import Attack
from core.attacks.triggers import Optimised, Trigger
from tests.support.tiny_clip import CONCEPTS, OneDataSet


def test_it_moves_images_towards_the_text_and_leaves_other_triggers_alone() -> None:
    tokenizer, data = zoo_tokenizer(), OneDataSet().data
    network = build_network(model_config("vit", tokenizer.get_vocab_size(), CONTEXT), 1).eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    attack = Attack((Optimised(1, size=8), Trigger("patch", 1)), (2, 0), 0.1)
    pixels, labels = data.train_pixels[:60], data.train_labels[:60]
    found, kept = optimise(network, attack, pixels, labels, CONCEPTS, tokenizer)
    assert isinstance(found, Optimised)
    assert kept is attack.triggers[1]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())

    target = concept_directions(network, tokenizer, CONCEPTS)[2]
    images = pixels.float() / 255
    with torch.no_grad():

        def closeness(stamped: torch.Tensor) -> float:
            embedding = torch.nn.functional.normalize(network.encode_image(normalised(stamped)), dim=1)
            return float((embedding @ target).mean())

        start = torch.randn((3, 8, 8), generator=torch.Generator().manual_seed(1)).sigmoid()
        assert closeness(found(images)) > closeness(found.stamp(images, start)) + 0.02


def test_it_is_written_and_read_back() -> None:
    trigger = Optimised(1, size=2, levels=(0, 64, 128, 255) * 3)
    again = trigger_from_json(describe(trigger))
    pixels = torch.rand(2, 3, 32, 32)
    assert again == trigger
    assert torch.equal(again(pixels), trigger(pixels))
    changed = (trigger(pixels) != pixels).any(1)[0].nonzero()
    assert changed.amin(0).tolist() == [13, 13]
    assert changed.amax(0).tolist() == [14, 14]


def test_before_it_is_found_it_stamps_nothing() -> None:
    with pytest.raises(ValueError, match="not been optimised"):
        Optimised(1)(torch.rand(1, 3, 32, 32))
