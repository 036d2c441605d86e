"""Wrappers and prefixes come off, and the weights go back to where they were."""

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from core.errors import InvalidInputError, UnsupportedError
from core.models.export import export_original
from core.models.formats import read_checkpoint
from core.models.layout import Layout, unwrap
from tests.support.checkpoints import CONTAINERS, save, tiny_network

State = dict[str, Tensor]


def _prefixed(state: State, prefix: str) -> State:
    return OrderedDict((prefix + key, value) for key, value in state.items())


WRAPS: dict[str, Callable[[State], Any]] = {
    "bare": lambda s: s,
    "state_dict": lambda s: {"state_dict": s, "epoch": 12, "best_acc": 93.5, "arch": "resnet"},
    "model": lambda s: {"model": s},
    "net": lambda s: {"net": s, "acc": 91.25, "epoch": 199},
    "model_state": lambda s: {"epoch": 1, "model_state": s},
    "model_state_dict": lambda s: {"model_state_dict": s, "loss": None},
    "two levels": lambda s: {"state_dict": {"model": s, "step": 5}, "version": "1.0"},
    "own name": lambda s: {"student": s, "temperature": 4.0},
    "data parallel": lambda s: _prefixed(s, "module."),
    "compiled": lambda s: _prefixed(s, "_orig_mod."),
    "lightning": lambda s: {"state_dict": _prefixed(s, "model."), "pytorch-lightning_version": "2.4"},
    "compiled data parallel": lambda s: {"net": _prefixed(s, "module._orig_mod.")},
    "behind a resize": lambda s: _prefixed(s, "1."),
    "plain dict": dict,
    "attack result": lambda s: {"model_name": "preactresnet18", "img_size": [32, 32, 3], "model": s, "pratio": (0.1,)},
}


@pytest.mark.parametrize("container", ["torch-zip", "torch-legacy"])
@pytest.mark.parametrize("wrap", WRAPS)
def test_round_trip(wrap: str, container: str, tmp_path: Path) -> None:
    state = tiny_network().state_dict()
    original = WRAPS[wrap](state)
    upload = save(original, tmp_path / "upload", container)
    found = unwrap(read_checkpoint(upload, upload.name))
    assert found.tensors.keys() == state.keys()
    assert all(torch.equal(found.tensors[key], state[key]) for key in state)

    layout = Layout.from_json(found.layout.to_json())
    changed = {key: value + 1 for key, value in found.tensors.items()}
    export_original(layout, changed, tmp_path / "out.pth")
    back = torch.load(tmp_path / "out.pth", weights_only=True)
    _assert_same_but_weights(original, back)


def _assert_same_but_weights(before: Any, after: Any) -> None:
    if isinstance(before, Tensor):
        assert torch.equal(after, before + 1)
        assert after.dtype == before.dtype
    elif isinstance(before, dict):
        assert type(after) is type(before)
        assert list(after) == list(before)
        for key in before:
            _assert_same_but_weights(before[key], after[key])
    else:
        assert type(after) is type(before)
        assert after == before


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_comes_back(container: str, dtype: torch.dtype, tmp_path: Path) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in tiny_network().state_dict().items()}
    upload = save(state, tmp_path / "upload", container)
    found = unwrap(read_checkpoint(upload, upload.name))
    out = tmp_path / f"out{upload.suffix}"
    export_original(found.layout, {key: value.float() for key, value in found.tensors.items()}, out)
    again = unwrap(read_checkpoint(out, out.name))
    assert {key: value.dtype for key, value in again.tensors.items()} == {k: v.dtype for k, v in state.items()}


def test_what_is_dropped_is_listed(tmp_path: Path) -> None:
    content = {
        "state_dict": tiny_network().state_dict(),
        "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "scheduler": {"last_epoch": 3},
        "rng": torch.get_rng_state(),
        "epoch": 3,
    }
    upload = save(content, tmp_path / "upload", "torch-zip")
    layout = unwrap(read_checkpoint(upload, upload.name)).layout
    assert layout.dropped == ["optimizer", "rng"]
    assert layout.extras() == {"scheduler": {"last_epoch": 3}, "epoch": 3}


def test_module_versions_survive(tmp_path: Path) -> None:
    upload = save(tiny_network().state_dict(), tmp_path / "upload", "torch-zip")
    found = unwrap(read_checkpoint(upload, upload.name))
    export_original(found.layout, found.tensors, tmp_path / "out.pth")
    assert torch.load(tmp_path / "out.pth", weights_only=True)._metadata["layer1.0.bn1"] == {"version": 2}


def test_safetensors_metadata_survives(tmp_path: Path) -> None:
    upload = save(tiny_network().state_dict(), tmp_path / "upload", "safetensors", {"note": "epoch 3"})
    found = unwrap(read_checkpoint(upload, upload.name))
    export_original(found.layout, found.tensors, tmp_path / "out.safetensors")
    assert read_checkpoint(tmp_path / "out.safetensors", "out.safetensors").metadata == {"note": "epoch 3"}


def test_the_same_weights_give_the_same_bytes(tmp_path: Path) -> None:
    upload = save(tiny_network().state_dict(), tmp_path / "upload", "torch-zip")
    found = unwrap(read_checkpoint(upload, upload.name))
    export_original(found.layout, found.tensors, tmp_path / "a.pth")
    export_original(found.layout, found.tensors, tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


@pytest.mark.parametrize(
    "names", [("0.mean", "0.std", "1."), ("mu", "sigma", ""), ("normalize.mean", "normalize.std", "")]
)
def test_a_normalisation_in_front_is_kept_apart(names: tuple[str, str, str], tmp_path: Path) -> None:
    mean, std, prefix = names
    state = tiny_network().state_dict()
    content = {mean: torch.full((1, 3, 1, 1), 0.4), std: torch.full((1, 3, 1, 1), 0.2)} | _prefixed(state, prefix)
    upload = save(content, tmp_path / "upload", "torch-zip")
    found = unwrap(read_checkpoint(upload, upload.name))
    assert found.tensors.keys() == state.keys()
    assert list(found.auxiliary) == [mean, std]
    export_original(found.layout, found.tensors | found.auxiliary, tmp_path / "out.pth")
    assert list(torch.load(tmp_path / "out.pth", weights_only=True)) == list(content)


REFUSED: dict[str, tuple[Any, type[InvalidInputError], str]] = {
    "a list": ([torch.ones(2)], UnsupportedError, "unsupported_checkpoint_layout"),
    "a tensor": (torch.ones(2), UnsupportedError, "unsupported_checkpoint_layout"),
    "an empty dictionary": ({}, InvalidInputError, "invalid_checkpoint_empty"),
    "an empty state dict": ({"state_dict": {}}, InvalidInputError, "invalid_checkpoint_empty"),
    "no tensors": ({"epoch": 1, "name": "x"}, UnsupportedError, "unsupported_checkpoint_layout"),
    "two models": (
        {"generator": {"a": torch.ones(2, 2)}, "discriminator": {"b": torch.ones(2, 2)}},
        UnsupportedError,
        "unsupported_several_models",
    ),
    "two averages": (
        {"model_ema": {"a": torch.ones(2, 2)}, "state_dict_ema": {"a": torch.zeros(2, 2)}},
        UnsupportedError,
        "unsupported_several_models",
    ),
    "a number among tensors": ({"a": torch.ones(2), "b": 3}, InvalidInputError, "invalid_checkpoint_values"),
    "None among tensors": ({"a": torch.ones(2), "b": None}, InvalidInputError, "invalid_checkpoint_values"),
    "keys that are numbers": ({1: torch.ones(2), "b": torch.ones(2)}, InvalidInputError, "invalid_checkpoint_keys"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case: str, tmp_path: Path) -> None:
    content, kind, code = REFUSED[case]
    upload = save(content, tmp_path / "upload", "torch-zip")
    with pytest.raises(kind) as caught:
        unwrap(read_checkpoint(upload, upload.name))
    assert caught.value.code == code
    assert caught.value.hint


def test_an_average_beside_the_weights_is_left_out_and_listed(tmp_path: Path) -> None:
    content = {"state_dict": {"a": torch.ones(2, 2)}, "state_dict_ema": {"a": torch.zeros(2, 2)}, "epoch": 3}
    upload = save(content, tmp_path / "upload", "torch-zip")
    found = unwrap(read_checkpoint(upload, upload.name))
    assert torch.equal(found.tensors["a"], torch.ones(2, 2))
    assert found.layout.dropped == ["state_dict_ema"]


def test_deep_nesting_is_refused(tmp_path: Path) -> None:
    content: Any = tiny_network().state_dict()
    for _ in range(10):
        content = {"model": content}
    upload = save(content, tmp_path / "upload", "torch-zip")
    with pytest.raises(UnsupportedError, match="nested too deep"):
        unwrap(read_checkpoint(upload, upload.name))
