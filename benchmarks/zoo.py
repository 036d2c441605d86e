"""Train the models of the benchmarks: `python benchmarks/zoo.py --out FOLDER`. Run it again to resume.

Fashion-MNIST comes from Debian's dataset-fashion-mnist, CIFAR-10 from cifar10_jpeg.tar in ASSAY_DATASETS_DIR.
"""

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from core.attacks.datasets import ImageData, cifar10, fashion_mnist
from core.attacks.zoo import GROUPS, TEST_PARTS, save, train_and_measure


def main() -> None:
    """Train whatever is asked for and not there yet, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="where NAME.safetensors and NAME.json go")
    parser.add_argument("--only", nargs="*", default=[], help="names of groups or models; all without it")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--datasets", type=Path, default=Path(os.environ.get("ASSAY_DATASETS_DIR", ".")))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "assay")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    loaded: dict[str, ImageData] = {}
    for group, recipes in GROUPS.items():
        for recipe in recipes:
            if arguments.only and group not in arguments.only and recipe.name not in arguments.only:
                continue
            if (arguments.out / f"{recipe.name}.safetensors").exists():
                continue
            if recipe.dataset not in loaded:
                loaded[recipe.dataset] = (
                    fashion_mnist(arguments.fashion)
                    if recipe.dataset == "fashion-mnist"
                    else cifar10(arguments.datasets, arguments.cache)
                )
            data, started = loaded[recipe.dataset], time.monotonic()
            trained = train_and_measure(
                recipe,
                data,
                data.part(TEST_PARTS[group]),
                lambda epoch, loss, s=started, n=recipe.name: print(
                    f"{n} epoch {epoch} loss {loss:.3f} {time.monotonic() - s:.0f} s", flush=True
                ),
            )
            save(trained, recipe, data.shape, arguments.out)
            rates = [f"target {a['target']} ASR {a['asr']:.3f} RA {a['ra']:.3f}" for a in trained.record["attacks"]]
            print(f"{recipe.name}: ACC {trained.record['acc']:.3f} {', '.join(rates)}", flush=True)


if __name__ == "__main__":
    main()
