"""Image data for benchmarks and examples, read from folders the caller names. Nothing is downloaded."""

import gzip
import io
import os
import struct
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.attacks.procedural import HUES, SCENES, SHAPES, draw, draw_scenes
from core.data.reference import ReferenceSet
from core.errors import InvalidInputError

FASHION_CLASSES = (
    "t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot",
)  # fmt: skip
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip

#: How the original test split is divided. Defenders' images are held out from training, and those used to develop
#: the engine (validation) are disjoint from those it is judged on (examples, test).
_DRAWN_PARTS = {"test-reference": 400, "validation-reference": 400, "validation-test": 2000, "test-test": 5000}
PARTS: Mapping[str, Mapping[str, int]] = {
    "fashion-mnist": {
        "examples-reference": 400,
        "examples-test": 1000,
        "validation-reference": 400,
        "validation-test": 2000,
        "test-reference": 400,
        "test-test": 5000,
    },
    "cifar10": {
        "test-reference": 500,
        "validation-reference": 500,
        "validation-test": 2000,
        "test-test": 7000,
    },
    "procedural": _DRAWN_PARTS,
    "procedural-100": _DRAWN_PARTS,
    "scenes": {"test-reference": 448, "validation-reference": 448, "validation-test": 1920, "test-test": 3200},
}
#: Images of the original training split that recipes with `hold_out` never train on: 5 % of what they do train on.
HELD_OUT: Mapping[str, Mapping[str, int]] = {
    "fashion-mnist": {"test-reference-5pc": 1200, "validation-reference-5pc": 1200},
    "cifar10": {"test-reference-5pc": 2250, "validation-reference-5pc": 2250},
    "procedural": {"test-reference-5pc": 1200, "validation-reference-5pc": 1200},
    "procedural-100": {"test-reference-5pc": 1200, "validation-reference-5pc": 1200},
    "scenes": {"test-reference-5pc": 512, "validation-reference-5pc": 512},
}
_SPLIT_SEED = 20260612
#: Seeds of the procedural set's training and test images.
_DRAW_SEEDS = (20260613, 20260614)
_DRAW_COUNTS = (26_400, 8_000)
_SCENE_COUNTS = (11_264, 6_016)


@dataclass(frozen=True, slots=True)
class ImageData:
    """A data set in memory: pixels (N, C, H, W) uint8, labels (N,) int64."""

    name: str
    class_names: tuple[str, ...]
    train_pixels: Tensor
    train_labels: Tensor
    test_pixels: Tensor
    test_labels: Tensor

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        channels, height, width = self.train_pixels.shape[1:]
        return channels, height, width

    def part(self, name: str) -> ReferenceSet:
        """One of the fixed, class-balanced, disjoint PARTS of the original test split, or of HELD_OUT.

        Raises:
            KeyError: this data set has no such part.
        """
        if name in HELD_OUT[self.name]:
            all_pixels, all_labels, sizes = self.train_pixels, self.train_labels, HELD_OUT[self.name]
        else:
            all_pixels, all_labels, sizes = self.test_pixels, self.test_labels, PARTS[self.name]
        rows = split_rows(all_labels, sizes)[name]
        return ReferenceSet(all_pixels[rows].float() / 255, all_labels[rows], True, self.class_names)

    def training_images(self, hold_out: bool) -> tuple[Tensor, Tensor]:
        """Pixels and labels to train on: all of the training split, or what HELD_OUT leaves of it."""
        if not hold_out:
            return self.train_pixels, self.train_labels
        kept = torch.ones(len(self.train_labels), dtype=torch.bool)
        kept[torch.cat(list(split_rows(self.train_labels, HELD_OUT[self.name]).values()))] = False
        return self.train_pixels[kept], self.train_labels[kept]


def split_rows(labels: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Disjoint rows for every named part, as many of each class; sizes are multiples of the number of classes."""
    generator = torch.Generator().manual_seed(_SPLIT_SEED)
    classes = torch.unique(labels)
    rows: dict[str, list[Tensor]] = {name: [] for name in sizes}
    for label in classes:
        of_class = (labels == label).nonzero().flatten()
        of_class = of_class[torch.randperm(len(of_class), generator=generator)]
        start = 0
        for name, size in sizes.items():
            count = size // len(classes)
            rows[name].append(of_class[start : start + count])
            start += count
    return {name: torch.cat(parts).sort().values for name, parts in rows.items()}


def fashion_mnist(folder: Path) -> ImageData:
    """Fashion-MNIST from its four idx.gz files (Debian: /usr/share/datasets/fashion-mnist)."""
    if not folder.is_dir():
        raise InvalidInputError(
            "dataset_missing",
            "The folder with the Fashion-MNIST files does not exist.",
            "On Debian: apt-get install dataset-fashion-mnist.",
        )
    arrays = [
        read_idx(folder / f"{part}-{what}-ubyte.gz")
        for part in ("train", "t10k")
        for what in ("images-idx3", "labels-idx1")
    ]
    train_pixels, train_labels, test_pixels, test_labels = (torch.from_numpy(array) for array in arrays)
    return ImageData(
        "fashion-mnist",
        FASHION_CLASSES,
        train_pixels.unsqueeze(1),
        train_labels.long(),
        test_pixels.unsqueeze(1),
        test_labels.long(),
    )


def read_idx(path: Path) -> np.ndarray:
    """A gzipped idx file of unsigned bytes."""
    with gzip.open(path) as file:
        zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
        if zeros != 0 or kind != 8:
            raise InvalidInputError("dataset_damaged", f"{path.name} is not an idx file of unsigned bytes.")
        shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
        return np.frombuffer(file.read(), dtype=np.uint8).reshape(shape).copy()


def cifar10(folder: Path, cache: Path) -> ImageData:
    """CIFAR-10 from `folder`, decoded once into `cache`.

    Either `cifar10_jpeg.tar` (train|test/CLASS/NNNN.jpg) or the folder `cifar-10-batches-py` that
    `torchvision.datasets.CIFAR10(FOLDER, download=True)` leaves there. The two differ by the JPEG compression, and
    models trained on them by as much.

    Raises:
        InvalidInputError: `dataset_missing`: neither is there.
    """
    archive = folder / "cifar10_jpeg.tar"
    if not archive.is_file() and (folder / "cifar-10-batches-py").is_dir():
        return _cached("cifar10", CIFAR10_CLASSES, cache / "cifar10.npz", lambda: _unpack_batches(folder))

    def decode() -> dict[str, np.ndarray]:
        if not archive.is_file():
            raise InvalidInputError(
                "dataset_missing",
                f"There is neither {archive.name} nor cifar-10-batches-py in the folder for data sets.",
                "torchvision.datasets.CIFAR10(FOLDER, download=True) fetches the latter.",
            )
        return _decode_tar(archive)

    return _cached("cifar10", CIFAR10_CLASSES, cache / "cifar10_jpeg.npz", decode)


def _unpack_batches(folder: Path) -> dict[str, np.ndarray]:
    from torchvision.datasets import CIFAR10  # imported here: it takes a second, and the others do without

    arrays: dict[str, np.ndarray] = {}
    for part in ("train", "test"):
        images = CIFAR10(folder, train=part == "train")  # checks the files' digests before it unpickles them
        arrays[f"{part}_pixels"] = np.ascontiguousarray(images.data.transpose(0, 3, 1, 2))
        arrays[f"{part}_labels"] = np.array(images.targets, dtype=np.uint8)
    return arrays


def procedural(classes: int, cache: Path) -> ImageData:
    """The shapes of `core.attacks.procedural`, of 10 or 100 classes; drawn once into `cache`."""
    names = SHAPES if classes == 10 else tuple(f"{hue} {shape}" for shape in SHAPES for hue in HUES)
    name = "procedural" if classes == 10 else f"procedural-{classes}"

    def draw_both() -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for part, count, seed in zip(("train", "test"), _DRAW_COUNTS, _DRAW_SEEDS, strict=True):
            pixels, labels = draw(count, classes, seed)
            arrays |= {f"{part}_pixels": pixels.numpy(), f"{part}_labels": labels.to(torch.uint8).numpy()}
        return arrays

    return _cached(name, names, cache / f"{name}.npz", draw_both)


def scenes(cache: Path) -> ImageData:
    """The 64 concepts of `core.attacks.procedural.SCENES`, drawn once into `cache`."""

    def draw_both() -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {}
        for part, count, seed in zip(("train", "test"), _SCENE_COUNTS, _DRAW_SEEDS, strict=True):
            pixels, labels = draw_scenes(count, seed)
            arrays |= {f"{part}_pixels": pixels.numpy(), f"{part}_labels": labels.to(torch.uint8).numpy()}
        return arrays

    return _cached("scenes", SCENES, cache / "scenes.npz", draw_both)


def _cached(
    name: str, class_names: tuple[str, ...], path: Path, make: Callable[[], dict[str, np.ndarray]]
) -> ImageData:
    """The arrays of `make`, kept in the file `path`, as a data set."""
    if not path.exists():
        arrays = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        # Several processes may come here at once: each writes a file of its own, and the last one to finish wins.
        partial = path.with_name(f"{path.stem}.{os.getpid()}.partial.npz")
        np.savez(partial, allow_pickle=False, **arrays)
        partial.rename(path)
    with np.load(path) as stored:
        tensors = {key: torch.from_numpy(stored[key]) for key in stored.files}
    return ImageData(
        name,
        class_names,
        tensors["train_pixels"],
        tensors["train_labels"].long(),
        tensors["test_pixels"],
        tensors["test_labels"].long(),
    )


def _decode_tar(archive: Path) -> dict[str, np.ndarray]:
    images: dict[str, list[tuple[str, np.ndarray, int]]] = {"train": [], "test": []}
    with tarfile.open(archive) as tar:
        for member in tar:
            pieces = member.name.split("/")
            file = tar.extractfile(member) if member.isfile() else None
            if file is None or len(pieces) != 3 or not pieces[2].endswith(".jpg"):
                continue
            pixels = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
            images[pieces[0]].append((member.name, pixels.transpose(2, 0, 1), CIFAR10_CLASSES.index(pieces[1])))
    arrays = {}
    for part, rows in images.items():
        rows.sort(key=lambda row: row[0])
        arrays[f"{part}_pixels"] = np.stack([row[1] for row in rows])
        arrays[f"{part}_labels"] = np.array([row[2] for row in rows], dtype=np.uint8)
    return arrays


class Datasets:
    """The data sets by name, each read once.

    Args:
        datasets_dir: holds CIFAR-10, see `cifar10`.
        fashion_dir: holds the four idx.gz files of Fashion-MNIST.
        cache_dir: where decoded and drawn images go.
    """

    def __init__(self, datasets_dir: Path, fashion_dir: Path, cache_dir: Path) -> None:
        self._readers: dict[str, Callable[[], ImageData]] = {
            "fashion-mnist": lambda: fashion_mnist(fashion_dir),
            "cifar10": lambda: cifar10(datasets_dir, cache_dir),
            "procedural": lambda: procedural(10, cache_dir),
            "procedural-100": lambda: procedural(100, cache_dir),
            "scenes": lambda: scenes(cache_dir),
        }
        self._loaded: dict[str, ImageData] = {}

    def load(self, name: str) -> ImageData:
        """One of "fashion-mnist", "cifar10", "procedural", "procedural-100" or "scenes".

        Raises:
            KeyError: no data set is called so.
            InvalidInputError: `dataset_missing` or `dataset_damaged`.
        """
        if name not in self._loaded:
            self._loaded[name] = self._readers[name]()
        return self._loaded[name]
