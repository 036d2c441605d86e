"""How fast an inversion of the example models is with several threads; nothing else should run meanwhile.

    OMP_WAIT_POLICY=PASSIVE python -m benchmarks.threads [--threads N]

(The setting is that of a scan's processes.) Three ways: one thread, N threads for each batch, and N targets side by
side with a thread each, which is what a scan of a small network does. A line for each: seconds, CPU seconds, images
through a forward and backward pass.
"""

import argparse
import time

import torch
from safetensors.torch import load_file

from core import devices
from core.attacks.clip.zoo import load_repository
from core.attacks.procedural import SCENES
from core.attacks.training import NORMALIZATION
from core.attacks.zoo import EXAMPLES
from core.config import Preprocess, ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.inversion.engine import invert
from core.models.architectures import build
from core.models.classifier import Classifier
from core.models.protocol import SuspectModel
from examples import measure, measure_clip

#: As many as a scan usually has.
_IMAGES = 400


def classifier() -> tuple[SuspectModel, ReferenceSet]:
    """The Fashion-MNIST example with a patch, and some of its test images."""
    recipe = EXAMPLES[0]
    network = build(recipe.architecture, measure.NUM_CLASSES, in_channels=1)
    network.load_state_dict(load_file(measure.HERE / "patch.safetensors"))
    pixels, labels = measure.test_images()
    shape = (1, pixels.shape[2], pixels.shape[3])
    values = NORMALIZATION[recipe.dataset]
    model = Classifier(network, Preprocess(values.mean, values.std, shape[1:]), shape, measure.NUM_CLASSES)
    return model, _some(pixels, labels, tuple(map(str, range(measure.NUM_CLASSES))))


def clip() -> tuple[SuspectModel, ReferenceSet]:
    """The clean example with its 64 concepts as targets."""
    return load_repository(measure_clip.HERE / "clean", SCENES), _some(*measure_clip.test_images(), tuple(SCENES))


def _some(pixels: torch.Tensor, labels: torch.Tensor, names: tuple[str, ...]) -> ReferenceSet:
    rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:_IMAGES]
    return ReferenceSet(pixels[rows], labels[rows], True, names)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=devices.available_cores())
    threads = parser.parse_args().threads
    ways = {
        "one thread": (1, 1),
        f"{threads} threads for each batch": (threads, 1),
        f"{threads} side by side": (1, threads),
    }
    config = ScanConfig().inversion
    for example in (classifier, clip):
        model, reference = example()
        for way, (each, beside) in ways.items():
            torch.set_num_threads(each)
            wall, cpu = time.monotonic(), time.process_time()
            found = invert(model, reference, config, seed=0, ctx=RunContext(threads=beside))
            wall, cpu = time.monotonic() - wall, time.process_time() - cpu
            print(f"{example.__name__:10} {way:24} {wall:6.1f} s {cpu:6.1f} CPU s {found.images_processed:7,} images")


if __name__ == "__main__":
    main()
