"""The dry run on every kind of answer."""

import json
from pathlib import Path

import pytest

from core.config import InversionConfig, ScanConfig
from core.context import RunContext
from core.domain import ModelKind, Preset
from core.errors import CanceledError
from core.inspection import inspect
from core.report.inspection import InspectionReport
from tests.support.clip_layouts import MEAN as CLIP_MEAN
from tests.support.clip_layouts import NAMES, open_clip_resnet
from tests.support.layouts import half, source_of
from tests.support.repository_layouts import after_training, timm_vit, vit


def _look(path: Path, **config: object) -> InspectionReport:
    return inspect(source_of(path), ScanConfig(**config), RunContext(), threads=1)  # type: ignore[arg-type]


def test_a_repository(tmp_path: Path) -> None:
    after_training(tmp_path)
    report = _look(tmp_path)
    assert (report.outcome, report.layout, report.kind) == ("accepted", "transformers", ModelKind.CLASSIFIER)
    assert report.network is not None
    assert report.network.input_shape == (3, 32, 32)
    assert report.network.preprocess.source == "preprocessor_config.json"
    assert {item.path for item in report.not_scanned} >= {"training_args.bin", "modeling.py", "onnx/model.onnx"}
    assert [item for item in report.missing if "reference set" in item] == report.missing


def test_a_checkpoint_that_says_nothing_of_its_images(tmp_path: Path) -> None:
    report = _look(half(tmp_path).path)
    assert report.network is not None
    assert report.network.preprocess.mean is None
    assert len(report.missing) == 3  # the images, the normalisation, the names


def test_the_cost_follows_the_plan(tmp_path: Path) -> None:
    timm_vit(tmp_path)
    one, two = (
        _look(tmp_path, preset=Preset.STANDARD, inversion=InversionConfig(restarts=restarts)).cost
        for restarts in (1, 2)
    )
    assert one is not None
    assert two is not None
    assert one.scan_images < two.scan_images
    assert one.purify_images > one.scan_images
    assert one.scan_s == pytest.approx(one.scan_images * one.image_s, abs=0.1)


def test_models_of_images_and_texts(tmp_path: Path) -> None:
    open_clip_resnet(tmp_path)
    report = _look(tmp_path, vocabulary=NAMES)
    assert (report.outcome, report.layout, report.kind) == ("accepted", "open_clip", ModelKind.CLIP)
    assert [file.path for file in report.files] == ["open_clip_model.safetensors"]
    assert report.network is not None
    assert (report.network.architecture, report.network.num_classes) == ("open_clip:resnet", len(NAMES))
    assert report.network.preprocess.mean == list(CLIP_MEAN)
    assert [item.partition(":")[0] for item in report.missing] == ["A reference set"]
    assert report.cost is not None
    (tmp_path / "tokenizer.json").unlink()
    missing = [item.partition(":")[0] for item in _look(tmp_path).missing]
    assert missing == ["A reference set", "A tokenizer", "A vocabulary"]
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"broken")
    assert _look(tmp_path).outcome in ("invalid", "unsupported")


def test_an_image_size_that_does_not_fit_is_found(tmp_path: Path) -> None:
    vit(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_attention_heads": 7}))
    report = _look(tmp_path)
    assert report.outcome == "unsupported"
    assert report.cost is None


def test_it_stops_when_told_to(tmp_path: Path) -> None:
    vit(tmp_path)
    with pytest.raises(CanceledError):
        inspect(source_of(tmp_path), ScanConfig(), RunContext(should_stop=lambda: True))
