"""Reading data sets and dividing their test split."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.attacks.datasets import CIFAR10_CLASSES, PARTS, cifar10, fashion_mnist, read_idx, split_rows
from core.errors import InvalidInputError


def _idx(path: Path, array: np.ndarray) -> None:
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def test_fashion_mnist_from_idx_files(tmp_path: Path) -> None:
    images = np.arange(2 * 28 * 28).reshape(2, 28, 28) % 251
    for part in ("train", "t10k"):
        _idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        _idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.array([3, 9]))
    data = fashion_mnist(tmp_path)
    assert data.shape == (1, 28, 28)
    assert data.train_labels.tolist() == [3, 9]
    assert np.array_equal(data.test_pixels[:, 0].numpy(), images)


def test_missing_folder_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError) as caught:
        fashion_mnist(tmp_path / "nowhere")
    assert caught.value.code == "dataset_missing"
    assert "dataset-fashion-mnist" in caught.value.hint


def test_not_an_idx_file(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(b"\x01\x02\x03\x04"))
    with pytest.raises(InvalidInputError) as caught:
        read_idx(path)
    assert caught.value.code == "dataset_damaged"


def test_cifar_is_decoded_once(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "cifar10_jpeg.tar", "w") as tar:
        for part in ("train", "test"):
            for number, name in enumerate(CIFAR10_CLASSES[:3]):
                buffer = io.BytesIO()
                Image.new("RGB", (32, 32), (200, 10 * number, 0)).save(buffer, "JPEG")
                member = tarfile.TarInfo(f"{part}/{name}/0000.jpg")
                member.size = len(buffer.getvalue())
                tar.addfile(member, io.BytesIO(buffer.getvalue()))
    first = cifar10(tmp_path, tmp_path / "cache")
    (tmp_path / "cifar10_jpeg.tar").unlink()
    second = cifar10(tmp_path, tmp_path / "cache")
    assert first.train_labels.tolist() == second.train_labels.tolist() == [0, 1, 2]
    assert first.shape == (3, 32, 32)
    assert torch.equal(first.test_pixels, second.test_pixels)
    assert abs(int(first.train_pixels[0, 0].float().mean()) - 200) < 8


@pytest.mark.parametrize("name", list(PARTS))
def test_parts_are_disjoint_balanced_and_fixed(name: str) -> None:
    labels = torch.arange(10_000) % 10
    rows = split_rows(labels, PARTS[name])
    everything = torch.cat(list(rows.values()))
    assert len(torch.unique(everything)) == len(everything) == sum(PARTS[name].values())
    for part, size in PARTS[name].items():
        assert labels[rows[part]].bincount().tolist() == [size // 10] * 10
        assert torch.equal(rows[part], split_rows(labels, PARTS[name])[part])
