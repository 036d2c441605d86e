"""Preprocessing read off configurations is what the libraries' own processors do."""

import json
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from core.data.images import fit
from core.errors import InvalidInputError
from core.models.repository.labels import timm_labels, transformers_labels
from core.models.repository.preprocess import timm_preprocessing, transformers_preprocessing

PROCESSORS: dict[str, dict[str, Any]] = {
    "ViTImageProcessor": {"size": {"height": 32, "width": 32}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2] * 3},
    "ConvNextImageProcessor": {"size": {"shortest_edge": 32}, "crop_pct": 1.0},
    "BeitImageProcessor": {"size": {"height": 32, "width": 32}, "do_center_crop": False},
    "EfficientNetImageProcessor": {"size": {"height": 32, "width": 32}, "include_top": True, "image_std": [0.5] * 3},
    "MobileNetV2ImageProcessor": {
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "rescale_factor": 1 / 127.5,
        "do_normalize": False,
    },
    "MobileViTImageProcessor": {"size": {"shortest_edge": 32}, "do_center_crop": False, "do_flip_channel_order": True},
}


@pytest.mark.parametrize("name", PROCESSORS)
def test_it_is_what_the_processor_does(name: str) -> None:
    processor = getattr(transformers, name)(**PROCESSORS[name])
    image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
    wanted = processor(Image.fromarray(image), return_tensors="pt")["pixel_values"][0]
    said = transformers_preprocessing(json.loads(processor.to_json_string()), "p.json", 3)
    assert said.declared.size == (32, 32)
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    mean, std = (torch.tensor(v).reshape(3, 1, 1) for v in (said.declared.mean, said.declared.std))
    found = (pixels - mean) / std
    assert torch.allclose(found.flip(0) if said.bgr else found, wanted.float(), atol=1e-4)


def test_an_absent_file_says_nothing() -> None:
    said = transformers_preprocessing({}, "p.json", 3)
    assert (said.declared.mean, said.declared.size) == (None, None)


def test_the_crop_is_noted() -> None:
    config = {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True, "resample": 3}
    said = transformers_preprocessing(config, "p.json", 3)
    assert (said.declared.size, said.crop, said.filter) == ((224, 224), 0.875, "bicubic")
    timm_said = timm_preprocessing(
        {"pretrained_cfg": {"input_size": [3, 64, 32], "crop_pct": 0.9, "mean": [0.5], "std": [0.5]}}, "c", 3
    )
    assert (timm_said.declared.size, timm_said.crop) == ((64, 32), 0.9)


@pytest.mark.parametrize(
    "config",
    [
        {"image_mean": [0.5, 0.5]},
        {"image_std": "x"},
        {"image_std": [0.1, 0.1, float("inf")]},
        {"rescale_factor": -1},
        {"size": {"height": 10**6, "width": 1}},
        {"size": "large"},
    ],
)
def test_what_cannot_be_is_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError) as caught:
        transformers_preprocessing(config, "p.json", 3)
    assert caught.value.code == "invalid_config"


def test_labels() -> None:
    assert transformers_labels({"id2label": {"1": "b\u0000\u202e", "0": " a  c "}}, "c") == (2, ("a c", "b"))
    assert transformers_labels({"num_labels": 5}, "c") == (5, ())
    assert transformers_labels({}, "c") == (2, ())
    assert timm_labels({"num_classes": 2, "label_names": ["x", "y"], "label_descriptions": {"x": "ex"}}, "c") == (
        2,
        ("ex", "y"),
    )
    for config in ({"id2label": {"a": "b"}}, {"id2label": {"0": "a"}, "num_labels": 3}, {"num_labels": True}):
        with pytest.raises(InvalidInputError):
            transformers_labels(config, "c")
    with pytest.raises(InvalidInputError):
        timm_labels({"num_classes": 3, "label_names": ["x", "y"]}, "c")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("ViTImageProcessor", {"size": {"height": 32, "width": 32}}),
        ("DeiTImageProcessor", {"size": {"height": 40, "width": 40}, "do_center_crop": True, "crop_size": 32}),
        ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}, "crop_pct": 0.8}),
    ],
)
def test_an_oblong_image_comes_out_as_from_the_processor(name: str, fields: dict[str, Any]) -> None:
    """One that is told a height and a width does not keep proportions."""
    processor = getattr(transformers, name)(**fields, do_normalize=False, resample=2)
    down, right = np.mgrid[0:90, 0:60]
    image = Image.fromarray(np.stack([down * 2.8, right * 4.2, down + 2.5 * right], -1).astype(np.uint8))
    wanted = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    said = transformers_preprocessing(json.loads(processor.to_json_string()), "p.json", 3)
    assert said.declared.size == (32, 32)
    found = fit(image, said.declared.size, said.crop or 1.0, said.filter, squash=said.squash)
    assert np.abs(np.asarray(found).transpose(2, 0, 1) / 255 - wanted).max() < 0.03
