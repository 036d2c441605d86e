"""Models as people save them, each with the way its own library loads it."""

import argparse
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from core.models.source import Source, SourceFile
from tests.support.checkpoints import tiny_network

CLASSES = 4
LABELS = dict(enumerate(["cat", "dog", "owl", "yak"]))
INDICES = {name: index for index, name in LABELS.items()}
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
Answer = Callable[[Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Case:
    """A model in files.

    Attributes:
        path: a file, or a folder.
        answer: (B, 3, H, W) network input -> logits, of the original network.
        reload: given what came back (same file name, or a folder), strictly loads it with its own library.
        side: of the images.
    """

    path: Path
    answer: Answer
    reload: Callable[[Path], Answer]
    side: int = 32


def source_of(path: Path) -> Source:
    """A file, or all files of a folder."""
    if path.is_file():
        return Source.single(path, path.name)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return Source(tuple(SourceFile(file.relative_to(path).as_posix(), file) for file in files))


# ------------------------------------------------------------------------------------------ single checkpoints


def _checkpoint(
    folder: Path,
    wrap: Callable[[dict[str, Tensor]], Any],
    unwrap: Callable[[Any], Mapping[str, Tensor]],
    *,
    name: str = "model.pth",
    network: nn.Module | None = None,
    build: Callable[[], nn.Module] = tiny_network,
    side: int = 32,
    **options: Any,
) -> Case:
    network = network or build()
    state = network.state_dict()
    network.load_state_dict(state)
    torch.save(wrap(state), folder / name, **options)

    def reload(path: Path) -> Answer:
        again = build()
        content = torch.load(path, weights_only=True)
        again.load_state_dict(unwrap(content), strict=True)
        return again.eval()

    return Case(folder / name, network.eval(), reload, side)


def _prefixed(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return OrderedDict((prefix + key, value) for key, value in state.items())


def _stripped(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    assert all(key.startswith(prefix) for key in state)
    return {key.removeprefix(prefix): value for key, value in state.items()}


def _optimizer(network: nn.Module) -> dict[str, Any]:
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.rand(2, 3, 32, 32)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


def bare(folder: Path) -> Case:
    return _checkpoint(folder, lambda s: s, lambda c: c)


def legacy(folder: Path) -> Case:
    return _checkpoint(folder, lambda s: s, lambda c: c, name="old.pt", _use_new_zipfile_serialization=False)


def data_parallel(folder: Path) -> Case:
    return _checkpoint(folder, lambda s: _prefixed(s, "module."), lambda c: _stripped(c, "module."))


def compiled(folder: Path) -> Case:
    return _checkpoint(folder, lambda s: _prefixed(s, "_orig_mod."), lambda c: _stripped(c, "_orig_mod."))


def training_script(folder: Path) -> Case:
    optimizer = _optimizer(tiny_network())
    return _checkpoint(
        folder,
        lambda s: {"state_dict": s, "epoch": 12, "best_acc1": 93.5, "optimizer": optimizer, "arch": "resnet"},
        lambda c: c["state_dict"],
        name="checkpoint.pth.tar",
    )


def numpy_scalars(folder: Path) -> Case:
    return _checkpoint(
        folder,
        lambda s: {"net": s, "acc": np.float64(91.25), "epoch": np.int64(7), "losses": np.arange(3.0)},
        lambda c: c["net"],
        name="ckpt.t7.pth",
    )


def lightning(folder: Path) -> Case:
    optimizer = _optimizer(tiny_network())
    return _checkpoint(
        folder,
        lambda s: {
            "epoch": 3,
            "global_step": 120,
            "pytorch-lightning_version": "2.4.0",
            "state_dict": _prefixed(s, "model."),
            "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 3, "completed": 3}}}},
            "callbacks": {"ModelCheckpoint{'monitor': 'val_acc'}": {"best_model_score": torch.tensor(0.9)}},
            "optimizer_states": [optimizer],
            "lr_schedulers": [{"base_lrs": [0.1], "last_epoch": 3, "_step_count": 4}],
            "hparams_name": "kwargs",
            "hyper_parameters": {"lr": 0.1, "name": "tiny"},
        },
        lambda c: _stripped(c["state_dict"], "model."),
        name="epoch=3-step=120.ckpt",
    )


def averaged(folder: Path) -> Case:
    return _checkpoint(
        folder,
        lambda s: {"model": s, "model_ema": {k: v.clone() for k, v in s.items()}, "scaler": {"scale": 65536.0}},
        lambda c: c["model"],
    )


def timm_saver(folder: Path) -> Case:
    """What timm's training script writes, with its arguments."""
    return _checkpoint(
        folder,
        lambda s: {"epoch": 1, "arch": "x", "state_dict": s, "args": argparse.Namespace(lr=0.1), "version": 2},
        lambda c: c["state_dict"],
        name="last.pth.tar",
    )


def tied(folder: Path) -> Case:
    """All weights are views into one block, as some trainers flatten them."""
    network = tiny_network()
    flat = torch.cat([p.detach().flatten() for p in network.parameters()])
    views: dict[str, Tensor] = {}
    start = 0
    for key, parameter in network.named_parameters():
        views[key] = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    return _checkpoint(folder, lambda s: {key: views.get(key, value) for key, value in s.items()}, lambda c: c)


def channels_last(folder: Path) -> Case:
    network = tiny_network()
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return _checkpoint(folder, lambda s: s, lambda c: c, network=network)


def _half(dtype: torch.dtype) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        network = tiny_network()
        state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in network.state_dict().items()}
        network.load_state_dict(state)
        return network

    return build


def half(folder: Path) -> Case:
    return _checkpoint(
        folder,
        lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
        lambda c: c,
        build=_half(torch.float16),
    )


def bfloat16_safetensors(folder: Path) -> Case:
    network = _half(torch.bfloat16)()
    state = {k: v.bfloat16() if v.is_floating_point() else v for k, v in network.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"note": "epoch 3"})

    def reload(path: Path) -> Answer:
        again = tiny_network()
        again.load_state_dict(load_file(path), strict=True)
        return again.eval()

    return Case(folder / "model.safetensors", network.eval(), reload)


def torchvision_file(folder: Path) -> Case:
    def build() -> nn.Module:
        torch.manual_seed(1)
        return torchvision.models.get_model("shufflenet_v2_x0_5", weights=None, num_classes=CLASSES).eval()

    return _checkpoint(folder, lambda s: s, lambda c: c, build=build, side=64)


CHECKPOINTS: tuple[Callable[[Path], Case], ...] = (
    bare, legacy, data_parallel, compiled, training_script, numpy_scalars, lightning, averaged, timm_saver, tied,
    channels_last, half, bfloat16_safetensors, torchvision_file,
)  # fmt: skip
