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

from core.attacks.datasets import (
    CIFAR10_CLASSES,
    HELD_OUT,
    PARTS,
    Datasets,
    ImageData,
    cifar10,
    fashion_mnist,
    read_idx,
    split_rows,
)
from core.attacks.procedural import SHAPES, draw
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


def test_cifar_as_torchvision_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Batches:
        """Torchvision's own checks the digests of 160 MB."""

        def __init__(self, root: Path, train: bool) -> None:
            assert root == tmp_path
            self.data = np.arange(2 * 32 * 32 * 3).reshape(2, 32, 32, 3).astype(np.uint8)
            self.targets = [4, 2] if train else [1, 0]

    with pytest.raises(InvalidInputError) as caught:
        cifar10(tmp_path, tmp_path / "cache")
    assert caught.value.code == "dataset_missing"
    assert not (tmp_path / "cache").exists()
    (tmp_path / "cifar-10-batches-py").mkdir()
    monkeypatch.setattr("torchvision.datasets.CIFAR10", Batches)
    data = cifar10(tmp_path, tmp_path / "cache")
    assert (data.train_labels.tolist(), data.test_labels.tolist()) == ([4, 2], [1, 0])
    assert data.train_pixels[0, :, 0, 1].tolist() == [3, 4, 5]
    assert (tmp_path / "cache" / "cifar10.npz").is_file()


@pytest.mark.parametrize("name", [name for name in PARTS if name != "procedural-100"])
def test_parts_are_disjoint_balanced_and_fixed(name: str) -> None:
    classes = 64 if name == "scenes" else 10
    labels = torch.arange(10_240) % classes
    rows = split_rows(labels, PARTS[name])
    everything = torch.cat(list(rows.values()))
    assert len(torch.unique(everything)) == len(everything) == sum(PARTS[name].values())
    for part, size in PARTS[name].items():
        assert labels[rows[part]].bincount().tolist() == [size // classes] * classes
        assert torch.equal(rows[part], split_rows(labels, PARTS[name])[part])


def test_images_held_out_are_in_no_training_set() -> None:
    numbers = torch.arange(4000)
    pixels = torch.stack([numbers // 256, numbers % 256], 1).to(torch.uint8).reshape(-1, 1, 1, 2)
    labels = numbers % 10
    data = ImageData("procedural", SHAPES, pixels, labels, pixels[:10], labels[:10])
    parts = [data.part(name) for name in HELD_OUT["procedural"]]
    assert [len(part) for part in parts] == [1200, 1200]
    held = [{tuple(image) for image in (part.pixels * 255).round().long().flatten(1).tolist()} for part in parts]
    trained = {tuple(image) for image in data.training_images(hold_out=True)[0].flatten(1).tolist()}
    assert not held[0] & held[1]
    assert not trained & (held[0] | held[1])
    assert len(trained) == 1600
    assert len(data.training_images(hold_out=False)[1]) == 4000


@pytest.mark.parametrize("classes", [10, 100])
def test_shapes_are_drawn_from_their_seed(classes: int) -> None:
    pixels, labels = draw(200, classes, seed=4)
    again, same = draw(200, classes, seed=4)
    assert torch.equal(pixels, again)
    assert torch.equal(labels, same)
    assert labels.bincount().tolist() == [200 // classes] * classes
    assert pixels.shape == (200, 3, 32, 32)
    assert not torch.equal(draw(200, classes, seed=5)[0], pixels)
    assert len(torch.unique(pixels, dim=0)) == 200


def test_a_hundred_classes_are_shapes_in_ten_hues() -> None:
    pixels, labels = draw(2000, 100, seed=4)
    saturated = pixels.float().amax(1) - pixels.float().amin(1)
    red = (labels % 10 == 0).nonzero().flatten()
    loudest = [int(pixels[row].flatten(1)[:, saturated[row].argmax()].argmax()) for row in red]
    assert loudest.count(0) / len(red) > 0.5  # clutter may be more saturated than the shape


def test_counts_that_do_not_divide_are_refused() -> None:
    for count, classes in ((15, 10), (200, 7)):
        with pytest.raises(ValueError, match="10 or 100 classes"):
            draw(count, classes, seed=0)


def test_a_data_set_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.attacks.datasets._DRAW_COUNTS", (40, 20))
    first = Datasets(tmp_path, tmp_path, tmp_path / "cache")
    data = first.load("procedural")
    assert first.load("procedural") is data
    assert data.class_names == SHAPES
    assert len(data.test_labels) == 20
    stored = Datasets(tmp_path, tmp_path, tmp_path / "cache").load("procedural")
    assert torch.equal(stored.train_pixels, data.train_pixels)
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["procedural.npz"]
    with pytest.raises(KeyError):
        first.load("mnist")
