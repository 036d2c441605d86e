"""What people really save is read: every variant of torch.save, and what training code puts beside the weights."""

import argparse
import collections
import datetime
import decimal
import fractions
import http
import itertools
import pathlib
import pickle
import random
import struct
import types
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import InterpolationMode

from core.errors import UnsafeError
from core.models.formats import read_checkpoint
from core.models.layout import unwrap
from core.models.safety.inert import Opaque
from tests.support.pickle_builder import Call, Name, Raw, encode, pickled, tensor, torch_zip
from tests.support.zip_builder import Entry, build_zip

NETWORK = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
STATE = NETWORK.state_dict()


def stepped(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The state of an optimizer that has made a step."""
    NETWORK(torch.rand(2, 3, 4, 4)).sum().backward()
    optimizer.step()
    return optimizer.state_dict()


ADAM = stepped(torch.optim.AdamW(NETWORK.parameters(), lr=1e-3, amsgrad=True))
SGD = torch.optim.SGD(NETWORK.parameters(), lr=0.1, momentum=0.9)
SCHEDULERS = {
    "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(SGD, 10).state_dict(),
    "steps": torch.optim.lr_scheduler.MultiStepLR(SGD, [1, 2]).state_dict(),
    "cycle": torch.optim.lr_scheduler.OneCycleLR(SGD, max_lr=0.1, total_steps=100).state_dict(),
    "plateau": torch.optim.lr_scheduler.ReduceLROnPlateau(SGD).state_dict(),
}
LIGHTNING = {
    "epoch": 1,
    "global_step": 10,
    "pytorch-lightning_version": "2.5.0",
    "state_dict": {f"model.{key}": value for key, value in STATE.items()},
    "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1, "completed": 1}}}},
    "callbacks": {
        "ModelCheckpoint{'monitor': 'val', 'mode': 'min'}": {
            "best_model_score": torch.tensor(0.5),
            "best_k_models": {"/runs/a.ckpt": torch.tensor(0.5)},
            "dirpath": "/runs",
        },
        "EarlyStopping": {"wait_count": 0, "best_score": torch.tensor(0.5)},
    },
    "optimizer_states": [ADAM],
    "lr_schedulers": [SCHEDULERS["cosine"]],
    "hparams_name": "kwargs",
    "hyper_parameters": {"lr": 1e-3, "milestones": [1, 2], "path": pathlib.Path("/data")},
}
#: What stands beside the weights.
BESIDE: dict[str, Any] = {
    "optimizer": ADAM,
    "SGD": stepped(SGD),
    "schedulers": SCHEDULERS,
    "scaler": torch.amp.GradScaler("cpu").state_dict(),
    "best accuracy": np.float64(0.93),
    "NumPy numbers": [np.float32(1.5), np.int64(3), np.bool_(True), np.float16(2), np.uint8(4), np.complex64(1j)],
    "confusion": np.zeros((10, 10), dtype=int),
    "class names": np.array(["cat", "dog"]),
    "objects": np.array([{}, 1], dtype=object),
    "records": np.zeros(2, dtype=[("a", "f4")]),
    "big-endian": np.arange(3, dtype=">f4"),
    "dates of NumPy": [np.datetime64("2020-01-01"), np.str_("x")],
    "types": [np.dtype("f4"), np.float32, torch.float32, torch.device("cuda", 0), torch.strided],
    "arguments": argparse.Namespace(lr=0.1, data=pathlib.Path("/data"), betas=(0.9, 0.999), options={"a": [1]}),
    "settings": types.SimpleNamespace(a=1, b=types.SimpleNamespace(c="x")),
    "times": [
        datetime.datetime.now(),
        datetime.datetime.now(datetime.UTC),
        datetime.date.today(),
        datetime.timedelta(1, 2, 3),
        datetime.time(1, 2),
        datetime.timezone(datetime.timedelta(hours=1)),
    ],
    "paths": [pathlib.PurePosixPath("/a/b"), pathlib.PureWindowsPath("C:/a"), pathlib.Path("x")],
    "numbers": [1 << 100, -(1 << 100), 1e300, float("inf"), 1 + 2j, decimal.Decimal("1.5"), fractions.Fraction(1, 3)],
    "containers": [{1, "a"}, frozenset({1}), (1, (2, ())), range(3), slice(1, 2), b"\x00\xff", bytearray(b"x"), ...],
    "collections": [
        collections.OrderedDict(a=1),
        collections.defaultdict(list, a=[1]),
        collections.defaultdict(dict),
        collections.Counter("aab"),
        collections.deque([1, 2], maxlen=5),
    ],
    "odd keys": {(1, "a"): 2, 1.5: 3, None: 1, True: 0, -3: 1},
    "enumerations": [http.HTTPStatus.OK, InterpolationMode.BICUBIC, Image.Resampling.BICUBIC],
    "identifier": uuid.uuid4(),
    "version": torch.__version__,
    "size": torch.Size([1, 2]),
    "random states": [torch.get_rng_state(), np.random.get_state(), random.getstate(), np.random.RandomState(0)],
    "log": [random.random() for _ in range(20_000)],
    "empty tensors": [torch.empty(0), torch.zeros(0, 5)],
    "other dtypes": [torch.ones(2).to(d) for d in (torch.uint16, torch.float8_e4m3fn, torch.complex64, torch.int8)],
    "a storage": torch.ones(3).untyped_storage(),
    "None": None,
}
WEIGHT = torch.arange(16.0).reshape(4, 4)
TAGGED = nn.Parameter(torch.rand(2, 2))
TAGGED.tag = "x"  # type: ignore[attr-defined]
STATES: dict[str, dict[str, Any]] = {
    "plain": STATE,
    "of several GPUs": {f"module.{key}": value for key, value in STATE.items()},
    "compiled": {f"_orig_mod.{key}": value for key, value in STATE.items()},
    "bfloat16": {key: value.bfloat16() if value.is_floating_point() else value for key, value in STATE.items()},
    "tied and views": {"a": WEIGHT, "b": WEIGHT, "c": WEIGHT.T, "d": WEIGHT[1:3, 1:], "e": WEIGHT[::2], "f": WEIGHT[2]},
    "channels last": {"a": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)},
    "parameters": {"a": nn.Parameter(WEIGHT), "b": TAGGED, "c": nn.Buffer(torch.ones(2))},
    "averaged": torch.optim.swa_utils.AveragedModel(NETWORK).state_dict(),
    "parametrised": nn.utils.parametrizations.weight_norm(nn.Linear(2, 2)).state_dict(),
    "a part of a large tensor": {"a": torch.arange(10_000.0)[20:5000]},
}


def same(ours: Any, theirs: Any) -> None:
    assert list(ours) == list(theirs)
    for key, value in theirs.items():
        assert ours[key].dtype == value.dtype
        assert ours[key].stride() == value.stride()
        assert torch.equal(ours[key], value.detach())


def read(path: Path) -> Any:
    return read_checkpoint(path, "model.pth").content


@pytest.mark.parametrize("name", STATES)
@pytest.mark.parametrize(("new", "protocol"), list(itertools.product((True, False), (2, 3, 4, 5))))
def test_every_variant_of_torch_save(name: str, new: bool, protocol: int, tmp_path: Path) -> None:
    torch.save(STATES[name], tmp_path / "blob", _use_new_zipfile_serialization=new, pickle_protocol=protocol)
    content = read(tmp_path / "blob")
    same(content, STATES[name])
    assert type(content) is type(STATES[name])
    assert getattr(content, "_metadata", None) == getattr(STATES[name], "_metadata", None)


def test_views_of_one_storage_still_share_it(tmp_path: Path) -> None:
    torch.save(STATES["tied and views"], tmp_path / "blob")
    content = read(tmp_path / "blob")
    assert len({value.untyped_storage().data_ptr() for value in content.values()}) == 1


@pytest.mark.parametrize("option", ["no CRC", "odd name"])
def test_options_of_torch_save(option: str, tmp_path: Path) -> None:
    path = tmp_path / ("my model (1).v2" if option == "odd name" else "blob")
    if option == "no CRC":
        torch.serialization.set_crc32_options(False)
    try:
        torch.save(STATE, path)
    finally:
        torch.serialization.set_crc32_options(True)
    same(read(path), STATE)


@pytest.mark.parametrize("name", BESIDE)
@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("new", [True, False])
def test_what_stands_beside_the_weights(name: str, protocol: int, new: bool, tmp_path: Path) -> None:
    content = {"state_dict": STATE, "extra": BESIDE[name], "epoch": 3}
    torch.save(content, tmp_path / "blob", pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    found = unwrap(read_checkpoint(tmp_path / "blob", "model.pth"))
    same(found.tensors, STATE)
    assert found.layout.extras()["epoch"] == 3


@pytest.mark.parametrize(("long", "accepted"), [((16, 16), True), ((0,), True), ((16, 17), False), ((1 << 40,), False)])
def test_headers_as_torch_writes_them_behind_four_gigabytes(long: Any, accepted: bool, tmp_path: Path) -> None:
    """It repeats sizes and offsets in a member's own header, where no field asks for them."""
    extra = struct.pack(f"<HH{len(long)}Q", 1, 8 * len(long), *long)
    first = Entry("archive/data/0", bytes(16), flags=8, local_extra=extra)
    pickle_ = Entry("archive/data.pkl", pickled({"w": tensor()}))
    (tmp_path / "blob").write_bytes(build_zip([first, pickle_, Entry("archive/version", b"3\n")]))
    if accepted:
        assert list(read(tmp_path / "blob")) == ["w"]
    else:
        with pytest.raises(UnsafeError, match="long size"):
            read(tmp_path / "blob")


def test_lightning(tmp_path: Path) -> None:
    torch.save(LIGHTNING, tmp_path / "blob")
    found = unwrap(read_checkpoint(tmp_path / "blob", "epoch=1.ckpt"))
    same(found.tensors, STATE)
    assert found.layout.path == ["state_dict"]


def test_an_average_beside_the_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "state_dict_ema": {k: v.clone() for k, v in STATE.items()}}, tmp_path / "blob")
    content = read(tmp_path / "blob")
    same(content["state_dict"], STATE)
    same(content["state_dict_ema"], STATE)


def test_numpy_numbers_are_numbers_and_namespaces_are_inert(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "n": BESIDE["NumPy numbers"], "a": BESIDE["arguments"]}, tmp_path / "blob")
    content = read(tmp_path / "blob")
    assert content["n"][:5] == [1.5, 3, True, 2.0, 4]
    assert isinstance(content["a"], Opaque)
    assert content["a"].kind == "argparse.Namespace"


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_state_dict_of_arrays(order: Any, protocol: int, tmp_path: Path) -> None:
    arrays = {key: np.array(value.numpy(), order=order) for key, value in STATE.items()}
    for content in (arrays, {"state_dict": arrays}, {"state_dict": {**STATE, **arrays}}):
        torch.save(content, tmp_path / "blob", pickle_protocol=protocol)
        found = unwrap(read_checkpoint(tmp_path / "blob", "model.pth"))
        for key, value in STATE.items():
            assert torch.equal(found.tensors[key], value)


def test_statistics_in_arrays_are_no_second_model(tmp_path: Path) -> None:
    torch.save({"state_dict": STATE, "metrics": {"confusion": np.eye(10)}}, tmp_path / "blob")
    same(unwrap(read_checkpoint(tmp_path / "blob", "model.pth")).tensors, STATE)


def test_texts_of_python_2(tmp_path: Path) -> None:
    short = Raw(b"U\x0bconv.weight")
    pairs = Call("collections.OrderedDict", [[short, tensor()]])
    (tmp_path / "blob").write_bytes(torch_zip(pairs))
    assert list(read(tmp_path / "blob")) == ["conv.weight"]


def test_classes_as_keys_of_old_lightning(tmp_path: Path) -> None:
    callbacks = {Name("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"): {"best": 1}}
    (tmp_path / "blob").write_bytes(torch_zip({"state_dict": {"w": tensor()}, "callbacks": callbacks}))
    assert list(read(tmp_path / "blob")["state_dict"]) == ["w"]


def test_settings_of_training_frameworks(tmp_path: Path) -> None:
    name = "lightning.fabric.utilities.data.AttributeDict"
    settings = Raw(encode(Call(name, how="newobj")) + b"(" + encode("lr") + encode(0.1) + b"u")
    (tmp_path / "blob").write_bytes(torch_zip({"state_dict": {"w": tensor()}, "hyper_parameters": settings}))
    assert read(tmp_path / "blob")["hyper_parameters"] == {"lr": 0.1}


def test_every_value_agrees_with_what_pickle_says(tmp_path: Path) -> None:
    """The interpreter against Python's own, on values that both may build."""
    random.seed(0)

    def value(depth: int) -> Any:
        choices: list[Any] = [
            None, True, random.randint(-(1 << 70), 1 << 70), random.random(), "é" * random.randint(0, 300), b"\0" * 300,
            random.randint(-300, 70_000),
        ]  # fmt: skip
        if depth:
            choices += [[value(depth - 1) for _ in range(3)], tuple(value(depth - 1) for _ in range(4))]
            choices += [{f"k{i}": value(depth - 1) for i in range(3)}, {1, 2, "x"}, frozenset({1})] * 2
        return random.choice(choices)

    for protocol in (2, 3, 4, 5) * 25:
        original = {"w": value(4), "again": [1, 2]}
        data = pickle.dumps(original, protocol)
        (tmp_path / "blob").write_bytes(torch_zip(data, {}))
        assert read(tmp_path / "blob") == pickle.loads(data)


def test_devices_and_gradients_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(torch_zip({"w": tensor(device="cuda:7")}))
    found: Tensor = read(tmp_path / "blob")["w"]
    assert (found.device.type, found.requires_grad) == ("cpu", False)
