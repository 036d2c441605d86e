"""What a set of files is, and every way in which it can be none."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from core.config import ScanConfig
from core.errors import AssayError, InvalidInputError, UnsupportedError
from core.models.repository.layouts import RepositoryKind, recognise
from core.models.repository.opening import Opened, open_model, sort_files
from tests.support.clip_layouts import open_clip_vit
from tests.support.layouts import source_of
from tests.support.repository_layouts import timm_both, timm_vit, vit, vit_both, vit_sharded, vit_zip

Spoil = Callable[[Path], object]


def _open(path: Path, scratch: Path, **config: Any) -> Opened:
    scratch.mkdir(exist_ok=True)
    return open_model(sort_files(source_of(path), scratch), ScanConfig(**config), lambda _: None)


def _refused(path: Path, scratch: Path, **config: Any) -> AssayError:
    with pytest.raises(AssayError) as caught:
        _open(path, scratch, **config)
    assert caught.value.hint
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def _change(folder: Path, name: str = "config.json", **fields: Any) -> None:
    path = folder / name
    value = json.loads(path.read_text()) | fields
    path.write_text(json.dumps({key: item for key, item in value.items() if item is not None}))


def _rewrite(folder: Path, name: str, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = dict(load_file(folder / name))
    change(tensors)
    save_file(tensors, folder / name, {"format": "pt"})


SPOILT: dict[str, tuple[Spoil, str, str]] = {
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "invalid_repository", "model.safetensors"),
    "neither library": (lambda f: _change(f, model_type=None), "unsupported_repository", "config.json"),
    "no classifier": (lambda f: _change(f, architectures=["ViTModel"]), "unsupported_architecture", "ViTModel"),
    "unknown type": (lambda f: _change(f, model_type="vit9"), "unsupported_architecture", "vit9"),
    "images and texts": (
        lambda f: _change(f, model_type="clip", architectures=["CLIPModel"]),
        "unsupported_architecture",
        "text_model",
    ),
    "other images and texts": (
        lambda f: _change(f, model_type="blip", architectures=["BlipModel"]),
        "unsupported_architecture",
        "blip",
    ),
    "two labels": (lambda f: _change(f, id2label={"0": "a", "1": "b"}), "unsupported_architecture", "classifier"),
    "label gaps": (lambda f: _change(f, id2label={"0": "a", "2": "b"}), "invalid_config", "id2label"),
    "several labels": (
        lambda f: _change(f, problem_type="multi_label_classification"),
        "unsupported_config",
        "problem",
    ),
    "too wide": (lambda f: _change(f, hidden_size=10**6), "unsupported_config", "hidden_size"),
    "another width": (lambda f: _change(f, hidden_size=64), "unsupported_architecture", "another shape"),
    "remote code": (lambda f: _change(f, auto_map={"AutoModel": "m.M"}), "unsafe_config_code", "auto_map"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "invalid_config", "config.json"),
    "bad deviation": (lambda f: _change(f, "preprocessor_config.json", image_std=[0, 0, 0]), "invalid_config", "std"),
    "bad size": (lambda f: _change(f, "preprocessor_config.json", size={"height": 0}), "invalid_config", "size"),
    "a key too many": (
        lambda f: _rewrite(f, "model.safetensors", lambda t: t.update(more=torch.ones(2))),
        "unsupported_architecture",
        "more",
    ),
    "a key too few": (
        lambda f: _rewrite(f, "model.safetensors", lambda t: t.pop("classifier.bias")),
        "unsupported_architecture",
        "classifier.bias",
    ),
    "not finite": (
        lambda f: _rewrite(f, "model.safetensors", lambda t: t["classifier.bias"].fill_(float("nan"))),
        "invalid_weights_not_finite",
        "classifier.bias",
    ),
}


@pytest.mark.parametrize("case", SPOILT)
def test_spoilt_repositories_are_refused_by_name(case: str, folder: Path, tmp_path: Path) -> None:
    spoil, code, word = SPOILT[case]
    vit(folder)
    spoil(folder)
    error = _refused(folder, tmp_path / "s")
    assert error.code == code, error
    assert word in f"{error.detail} {error.hint}"


def _index(folder: Path, change: Callable[[dict[str, str]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    value = json.loads(path.read_text())
    change(value["weight_map"])
    path.write_text(json.dumps(value))


_FIRST = "model-00001-of-00005.safetensors"
SHARDS: dict[str, tuple[Spoil, str, str]] = {
    "a missing shard": (lambda f: (f / _FIRST).unlink(), "invalid_repository", _FIRST),
    "a key in no shard": (lambda f: _index(f, lambda m: m.update(more=_FIRST)), "invalid_index", "more"),
    "a key not named": (lambda f: _index(f, lambda m: m.pop("classifier.bias")), "invalid_index", "classifier.bias"),
    "a key twice": (
        lambda f: _rewrite(f, _FIRST, lambda t: t.update({"classifier.bias": torch.ones(4)})),
        "invalid_index",
        "classifier.bias",
    ),
    "another shard": (lambda f: _index(f, lambda m: m.update({"classifier.bias": _FIRST})), "invalid_index", "bias"),
    "a path": (lambda f: _index(f, lambda m: m.update(more="../x.safetensors")), "invalid_index", "../x"),
    "another kind": (lambda f: _index(f, lambda m: m.update(more="x.bin")), "invalid_index", "x.bin"),
    "no map": (lambda f: (f / "model.safetensors.index.json").write_text("{}"), "invalid_index", "weight_map"),
}


@pytest.mark.parametrize("case", SHARDS)
def test_spoilt_shards_are_refused_by_name(case: str, folder: Path, tmp_path: Path) -> None:
    spoil, code, word = SHARDS[case]
    vit_sharded(folder)
    spoil(folder)
    error = _refused(folder, tmp_path / "s")
    assert (error.code, word in error.detail) == (code, True), error


@pytest.mark.parametrize("make", [vit_both, timm_both])
def test_two_files_with_different_weights_are_refused(
    make: Callable[[Path], Any], folder: Path, tmp_path: Path
) -> None:
    make(folder)
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    next(iter(state.values())).add_(1)
    torch.save(state, folder / "pytorch_model.bin")
    error = _refused(folder, tmp_path / "s")
    assert error.code == "unsupported_several_models"
    assert "pytorch_model.bin" in error.detail


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


def test_a_harmful_file_beside_the_model_refuses_it(folder: Path, tmp_path: Path) -> None:
    """Somebody could load it: a verdict covers the whole repository."""
    vit(folder)
    torch.save(_Runs(), folder / "other.bin")
    assert _refused(folder, tmp_path / "s").code.startswith("unsafe_")


def test_training_state_is_named_and_does_not_refuse_the_model(folder: Path, tmp_path: Path) -> None:
    """Trainers pickle their own classes: that is usual, never loaded, and does not come back."""
    vit(folder)
    torch.save(_Runs(), folder / "training_args.bin")
    (item,) = _open(folder, tmp_path / "s").repository.ignored
    assert item.path == "training_args.bin"
    assert "state of the training" in item.reason
    assert "unsafe_" in item.reason
    assert "print" in item.reason


def test_other_weights_that_cannot_be_read_are_listed(folder: Path, tmp_path: Path) -> None:
    vit(folder)
    (folder / "other.pth").write_bytes(b"nothing")
    opened = _open(folder, tmp_path / "s")
    (item,) = opened.repository.ignored
    assert item.path == "other.pth"
    assert "unsupported_format" in item.reason


def test_what_is_nearly_called_a_configuration_is_none(folder: Path, tmp_path: Path) -> None:
    vit(folder)
    (folder / "CONFIG.json").write_text('{"auto_map": {}}')
    (folder / "sub").mkdir()
    (folder / "sub" / "model.safetensors.index.json").write_text("{}")
    repository = _open(folder, tmp_path / "s").repository
    assert {item.path for item in repository.ignored} == {"CONFIG.json", "sub/model.safetensors.index.json"}
    assert {file.path for file in repository.kept} == {"config.json", "preprocessor_config.json", "README.md"}


def test_checkpoints_without_a_configuration_must_be_one(folder: Path) -> None:
    for name in ("a.pth", "b.safetensors"):
        (folder / name).write_bytes(b"x")
    with pytest.raises(UnsupportedError, match=r"a\.pth, b\.safetensors"):
        recognise(source_of(folder))


def test_the_request_may_not_contradict_the_configuration(folder: Path, tmp_path: Path) -> None:
    vit(folder)
    assert _open(folder, tmp_path / "s", architecture="transformers:vit").blueprint is not None
    assert _refused(folder, tmp_path / "s", architecture="resnet20").code == "unsupported_architecture"


def test_an_open_clip_repository_is_recognised(folder: Path, tmp_path: Path) -> None:
    import open_clip

    config = {"model_cfg": open_clip.get_model_config("ViT-B-32"), "preprocess_cfg": {"mean": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    (folder / "config.json").write_text("{}")
    save_file({"logit_scale": torch.ones(1)}, folder / "open_clip_model.safetensors")
    repository = recognise(source_of(folder))
    assert (repository.kind, repository.is_clip) == (RepositoryKind.OPEN_CLIP, True)
    assert [item.path for item in repository.ignored] == ["config.json"]
    assert _refused(folder, tmp_path / "s").code == "unsupported_architecture"


@pytest.mark.parametrize("name", ["tokenizer_config.json", "processor_config.json"])
def test_classes_of_tokenizers_and_processors_are_code(name: str, folder: Path, tmp_path: Path) -> None:
    open_clip_vit(folder)
    (folder / name).write_text(json.dumps({"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}))
    assert _refused(folder, tmp_path / "s").code == "unsafe_config_code"


def test_tokenizers_beside_classifiers_are_left_out(folder: Path, tmp_path: Path) -> None:
    vit(folder)
    (folder / "tokenizer.json").write_text("{}")
    opened = _open(folder, tmp_path / "s")
    assert [item.path for item in opened.repository.ignored] == ["tokenizer.json"]


def test_timm_configurations_are_checked(folder: Path, tmp_path: Path) -> None:
    timm_vit(folder)
    _change(folder, model_args={"img_size": 32, "checkpoint_path": "/etc/passwd"})
    assert _refused(folder, tmp_path / "s").code == "unsupported_config"
    _change(folder, architecture="hf-hub:a/b", model_args={})
    assert _refused(folder, tmp_path / "s").code == "unsupported_architecture"


def test_archives_with_bad_names_or_nothing_to_scan_are_refused(folder: Path, tmp_path: Path) -> None:
    for name, code in (("../model.safetensors", "unsafe_archive_paths"), ("notes/x.py", "invalid_repository")):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, "x")
        assert _refused(path, tmp_path / "s").code == code


def test_litter_of_archivers_is_nothing(folder: Path, tmp_path: Path) -> None:
    case = vit_zip(folder)
    with zipfile.ZipFile(case.path, "a") as archive:
        archive.writestr("__MACOSX/._config.json", "x")
        archive.writestr(".DS_Store", "x")
    opened = _open(case.path, tmp_path / "s")
    assert opened.repository.kind is RepositoryKind.TRANSFORMERS
    assert opened.repository.ignored == ()


def test_nested_archives_are_not_opened(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.zip", b"PK")
    with pytest.raises(InvalidInputError, match="an archive"):
        sort_files(source_of(path), tmp_path)
