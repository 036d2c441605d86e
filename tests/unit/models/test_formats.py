"""What is read, and what is refused by name."""

import contextlib
import gzip
import io
import pickle
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from core.errors import InvalidInputError, UnsafeError, UnsupportedError
from core.models.formats import read_checkpoint
from tests.support.checkpoints import CONTAINERS, save, tiny_network

FIRED: list[str] = []


def fire(text: str) -> str:
    FIRED.append(text)
    return text


class Payload:
    """Calls `fire` when unpickled."""

    def __reduce__(self) -> Any:
        return fire, ("boo",)


def test_a_header_as_long_as_a_pickle_begins_is_no_pickle(tmp_path: Path) -> None:
    for length in (0x0280, 0x0380, 0x0480, 0x0580):
        header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
        path = tmp_path / f"{length}.safetensors"
        path.write_bytes(length.to_bytes(8, "little") + header + bytes(4))
        assert list(read_checkpoint(path, path.name).content) == ["w"]


@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_are_told_by_content(container: str, tmp_path: Path) -> None:
    state = tiny_network().state_dict()
    path = save(state, tmp_path / "upload", container)
    blob = path.rename(tmp_path / "blob-without-extension")
    raw = read_checkpoint(blob, path.name)
    assert raw.container == container
    assert raw.file_bytes == blob.stat().st_size
    assert all(torch.equal(raw.content[key], state[key]) for key in state)


@pytest.mark.parametrize("name", ["m.pt", "m.PTH", "m.bin", "m.ckpt", "dir/m.th", "m.pth.tar", "C:\\x\\m.pt", "model"])
def test_torch_extensions(name: str, tmp_path: Path) -> None:
    path = save(tiny_network().state_dict(), tmp_path / "upload", "torch-zip")
    assert read_checkpoint(path, name).container == "torch-zip"


@pytest.mark.parametrize(
    ("container", "name"),
    [("torch-zip", "m.safetensors"), ("torch-zip", "m.zip"), ("torch-legacy", "m.onnx"), ("safetensors", "m.pth")],
)
def test_the_extension_must_agree(container: str, name: str, tmp_path: Path) -> None:
    path = save(tiny_network().state_dict(), tmp_path / "upload", container)
    with pytest.raises(InvalidInputError) as caught:
        read_checkpoint(path, name)
    assert caught.value.code == "invalid_checkpoint_extension"


def test_a_zip_stored_under_another_extension_is_still_read_as_what_it_is(tmp_path: Path) -> None:
    path = save(tiny_network().state_dict(), tmp_path / "upload", "torch-zip")
    path = path.rename(tmp_path / "blob.safetensors")
    assert read_checkpoint(path, "m.pth").container == "torch-zip"


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


def _zip(files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(3))
    return buffer.getvalue()


FOREIGN: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "invalid_checkpoint_empty", ""),
    "garbage": (bytes(range(256)) * 20, "unsupported_format", ""),
    "text": (b"hello, I am no model\n" * 50, "unsupported_format", ""),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + b"\0" * 600, "unsupported_format", "HDF5"),
    "GGUF": (b"GGUF\x03\0\0\0" + b"\0" * 600, "unsupported_format", "GGUF"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 600, "unsupported_format", "7z"),
    "gzip": (gzip.compress(b"x" * 1000), "unsupported_format", "gzip"),
    "tar": (_tar(), "unsupported_format", "tar"),
    "ONNX": (b"\x08\x07\x12\x07pytorch\x1a\x032.0:" + b"\0" * 600, "unsupported_format", "ONNX"),
    "NumPy": (b"\x93NUMPY\x01\0" + b"\0" * 600, "unsupported_format", "NumPy"),
    "npz": (_npz(), "unsupported_format", "npz"),
    "pickle": (pickle.dumps({"a": 1}), "unsupported_format", "pickle"),
    "zip of junk": (_zip({"a.txt": b"a" * 99, "b/c.bin": b"b" * 99}), "unsupported_zip", "torch.save"),
    "zip of pickles": (_zip({"a/data.pkl": b".", "a/evil.pkl": b"."}), "unsafe_archive_members", "another pickle"),
    "Keras": (_zip({"config.json": b"{}", "model.weights.h5": b"x"}), "unsupported_format", "Keras"),
    "TorchScript": (
        _zip({"m/code/x.py": b"", "m/data.pkl": b".", "m/constants.pkl": b"."}),
        "unsupported_torchscript",
        "",
    ),
    "torch.package": (_zip({"m/.data/extern_modules": b"", "m/x.pkl": b"."}), "unsupported_torch_package", ""),
    "empty pickle in a zip": (_zip({"m/data.pkl": b"", "m/version": b"3"}), "invalid_checkpoint", ""),
    "deflated": (_zip({"m/data.pkl": b"\x80\x02}q\0."}, zipfile.ZIP_DEFLATED), "unsupported_archive", "compressed"),
    "zip cut off": (_zip({"m/data.pkl": b"\x80\x02}q\0." * 20})[:60], "invalid_archive", "truncated"),
    "header longer than the file": (b"\xff\0\0\0\0\0\0\0{}", "invalid_checkpoint", ""),
    "header that is no JSON": (b"\x08\0\0\0\0\0\0\0{{{{{{{{", "invalid_checkpoint", ""),
    "header with a foreign dtype": (
        b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}'.ljust(64) + b"\0",
        "unsupported_dtype",
        "F8_E4M3",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_foreign_files(case: str, tmp_path: Path) -> None:
    content, code, word = FOREIGN[case]
    path = tmp_path / "blob"
    path.write_bytes(content)
    name = "m.safetensors" if case.startswith("header") else "m.pth"
    with pytest.raises(InvalidInputError) as caught:
        read_checkpoint(path, name)
    assert caught.value.code == code
    assert word in caught.value.detail
    assert caught.value.hint
    assert str(tmp_path) not in caught.value.detail


def test_nothing_may_follow_the_archive(tmp_path: Path) -> None:
    path = save(tiny_network().state_dict(), tmp_path / "upload", "torch-zip")
    path.write_bytes(path.read_bytes() + b"PK\x03\x04 and more")
    with pytest.raises(UnsafeError, match="behind"):
        read_checkpoint(path, "m.pth")


def test_a_million_objects_are_refused_soon(tmp_path: Path) -> None:
    torch.save({"a": torch.ones(2), "log": list(range(1_600_000))}, tmp_path / "m.pth")
    with pytest.raises(UnsupportedError) as caught:
        read_checkpoint(tmp_path / "m.pth", "m.pth")
    assert caught.value.code == "unsupported_checkpoint_size"


def test_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.pth"):
        with pytest.raises(InvalidInputError, match="no such file"):
            read_checkpoint(path, "m.pth")


def test_a_real_torchscript_file(tmp_path: Path) -> None:
    torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "m.pt"))
    with pytest.raises(UnsupportedError) as caught:
        read_checkpoint(tmp_path / "m.pt", "m.pt")
    assert caught.value.code == "unsupported_torchscript"


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.98])
def test_truncated_files(container: str, keep: float, tmp_path: Path) -> None:
    path = save(tiny_network().state_dict(), tmp_path / "upload", container)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InvalidInputError) as caught:
        read_checkpoint(path, path.name)
    assert caught.value.code == ("invalid_archive" if container == "torch-zip" else "invalid_checkpoint")


@pytest.mark.parametrize("container", CONTAINERS)
def test_flipped_bytes_never_escape_as_anything_else(container: str, tmp_path: Path) -> None:
    path = save({"a": torch.ones(4, 4), "b": torch.zeros(3)}, tmp_path / "upload", container)
    content = path.read_bytes()
    for position in range(0, len(content), max(1, len(content) // 150)):
        flipped = bytearray(content)
        flipped[position] ^= 0x5A
        path.write_bytes(flipped)
        with contextlib.suppress(InvalidInputError):  # anything else fails the test
            read_checkpoint(path, path.name)


@pytest.mark.parametrize("container", ["torch-zip", "torch-legacy"])
class TestPickles:
    def test_a_payload_never_runs(self, container: str, tmp_path: Path) -> None:
        path = save({"a": torch.ones(2), "b": Payload()}, tmp_path / "upload", container)
        with pytest.raises(UnsafeError) as caught:
            read_checkpoint(path, path.name)
        assert caught.value.code == "unsafe_pickle_globals"
        assert "fire" in caught.value.detail
        assert FIRED == []

    def test_a_whole_network_is_refused_by_name(self, container: str, tmp_path: Path) -> None:
        path = save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "upload", container)
        with pytest.raises(UnsupportedError) as caught:
            read_checkpoint(path, path.name)
        assert caught.value.code == "unsupported_module_pickle"
        assert "torch.nn.modules.linear.Linear" in caught.value.detail
        assert "state_dict" in caught.value.hint

    def test_numpy_scalars_are_numbers(self, container: str, tmp_path: Path) -> None:
        path = save({"state_dict": {"a": torch.ones(2)}, "acc": np.float64(0.5)}, tmp_path / "upload", container)
        assert read_checkpoint(path, path.name).content["acc"] == 0.5

    def test_sparse_tensors(self, container: str, tmp_path: Path) -> None:
        path = save({"a": torch.eye(4).to_sparse()}, tmp_path / "upload", container)
        with pytest.raises(UnsupportedError, match="sparse") as caught:
            read_checkpoint(path, path.name)
        assert caught.value.code == "unsupported_tensor_kind"

    def test_parameters_and_tied_weights_are_fine(self, container: str, tmp_path: Path) -> None:
        weight = torch.nn.Parameter(torch.rand(3, 3))
        path = save({"a": weight, "b": weight, "c": weight.detach().T}, tmp_path / "upload", container)
        content = read_checkpoint(path, path.name).content
        assert torch.equal(content["a"], content["b"])
        assert torch.equal(content["c"], weight.T)


def test_protocol_4_pickles_do_not_hide_their_globals(tmp_path: Path) -> None:
    path = tmp_path / "m.pth"
    torch.save({"a": torch.ones(2), "b": Payload()}, path, pickle_protocol=4)
    with pytest.raises(UnsafeError, match="fire"):
        read_checkpoint(path, "m.pth")
    assert FIRED == []


def test_names_of_safetensors_stay_in_file_order(tmp_path: Path) -> None:
    save_file({"b": torch.ones(1), "a": torch.ones(2, 2)}, str(tmp_path / "m.safetensors"))
    assert set(read_checkpoint(tmp_path / "m.safetensors", "m.safetensors").content) == {"a", "b"}
