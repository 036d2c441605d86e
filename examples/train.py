"""Regenerate the examples: one clean and two backdoored Fashion-MNIST classifiers, with reference and test images.

    python examples/train.py

Fashion-MNIST (Zalando Research, MIT licence) comes from Debian's dataset-fashion-mnist. Training takes a few minutes
on one core. The same seed gives the same weights on one machine; another machine's last digits may differ.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from PIL import Image

from core.attacks.datasets import ImageData, fashion_mnist
from core.attacks.zoo import EXAMPLES, save, train_and_measure
from core.data.reference import ReferenceSet

HOME = Path(__file__).resolve().parent / "fashion-mnist"


def main() -> None:
    """Write everything under examples/fashion-mnist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, default=HOME)
    parser.add_argument("--threads", type=int, default=1, help="more than one may change the last digits")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = fashion_mnist(arguments.fashion)
    write_images(data.part("examples-reference"), arguments.out / "reference")
    write_images(data.part("examples-test"), arguments.out / "test")
    records = {}
    for recipe in EXAMPLES:
        trained = train_and_measure(recipe, data, data.part("examples-test"), report)
        path = save(trained, recipe, data.shape, arguments.out)
        path.with_suffix(".json").unlink()  # provenance.json has the records of all three
        records[recipe.name] = trained.record
        print(f"{path.name}: ACC {trained.record['acc']:.3f}", *trained.record["attacks"], flush=True)
    write_provenance(data, records, arguments.out)


def report(epoch: int, loss: float) -> None:
    """One line per epoch."""
    print(f"epoch {epoch}: loss {loss:.3f}", flush=True)


def write_images(part: ReferenceSet, folder: Path) -> None:
    """FOLDER/INDEX-NAME/NUMBER.png, the layout Assay reads labels from."""
    shutil.rmtree(folder, ignore_errors=True)
    pixels = (part.pixels * 255).round().to(torch.uint8)
    for number, (image, label) in enumerate(zip(pixels, part.labels.tolist(), strict=True)):
        path = folder / f"{label}-{part.class_names[label]}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path, optimize=True)


def write_provenance(data: ImageData, records: dict[str, object], folder: Path) -> None:
    """How the models came about, in fractions, true triggers included."""
    provenance = {
        "data": "Fashion-MNIST, Zalando Research, MIT licence; Debian package dataset-fashion-mnist",
        "command": "python examples/train.py",
        "training_images": len(data.train_labels),
        "reference": "400 images of the original test split, 40 of each class",
        "test": "1,000 other images of the original test split, 100 of each class; ACC, ASR and RA are measured here",
        "class_names": data.class_names,
        "models": records,
    }
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    main()
