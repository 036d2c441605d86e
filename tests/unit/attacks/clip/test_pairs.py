"""Images that fit the towers, with captions."""

from pathlib import Path

import pytest
import torch

from core.attacks.clip.pairs import PairDatasets, captions_of
from core.attacks.datasets import Datasets, ImageData
from core.attacks.procedural import SCENES, SHAPES, draw_scenes
from core.data.reference import ReferenceSet


def test_grey_images_become_colour_and_are_framed_in_black(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    grey = torch.randint(1, 255, (4, 1, 28, 28), dtype=torch.uint8)
    data = ImageData("fashion-mnist", ("a", "b"), grey, torch.arange(4) % 2, grey[:2], torch.arange(2))
    monkeypatch.setattr(Datasets, "load", lambda self, name: data)
    pixels = PairDatasets(tmp_path, tmp_path, tmp_path).load("fashion-mnist").train_pixels
    assert pixels.shape == (4, 3, 32, 32)
    for channel in range(3):
        assert torch.equal(pixels[:, channel, 2:30, 2:30], grey[:, 0])
    assert int(pixels.sum()) == 3 * int(grey.sum())


def test_captions_follow_from_the_part_and_name_the_concept() -> None:
    images = ReferenceSet(torch.zeros(64, 3, 1, 1), torch.arange(64), True, SCENES)
    captions = captions_of(images, "test-reference")
    assert captions == captions_of(images, "test-reference")
    assert captions != captions_of(images, "validation-reference")
    assert all(name in caption for name, caption in zip(SCENES, captions, strict=True))


def test_scenes_have_the_colour_and_the_shape_of_their_name() -> None:
    pixels, labels = draw_scenes(640, 7)
    again, _ = draw_scenes(640, 7)
    assert torch.equal(pixels, again)
    assert labels.bincount().tolist() == [10] * 64
    assert SCENES[8 * 5 + 4] == f"blue {SHAPES[4]}"
    centre = pixels[:, :, 14:18, 14:18].float().mean((2, 3))
    discs = labels % 8 == 0
    red, blue = centre[discs & (labels // 8 == 0)].mean(0), centre[discs & (labels // 8 == 5)].mean(0)
    assert red.argmax() == 0
    assert blue.argmax() == 2


def test_a_scene_has_as_many_images_as_any_other() -> None:
    with pytest.raises(ValueError, match="64 scenes"):
        draw_scenes(100, 1)
