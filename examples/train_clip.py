"""Regenerate the CLIP examples: one clean and two backdoored models of captioned scenes, with reference pairs.

    python examples/train_clip.py

Everything is drawn, nothing is downloaded. Training takes about a minute for each model on one core. The same seed
gives the same weights on one machine; another machine's last digits may differ.
"""

import argparse
import io
import json
import shutil
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
from PIL import Image

from core.attacks.clip.pairs import PairDatasets, captions_of
from core.attacks.clip.suite import CLIP_EXAMPLES
from core.attacks.clip.training import train_clip
from core.attacks.clip.zoo import measure_clip, save_repository, zoo_tokenizer
from core.attacks.datasets import ImageData

HOME = Path(__file__).resolve().parent / "clip"
REFERENCE_PART, TEST_PART = "test-reference", "test-test"


def main() -> None:
    """Write everything under examples/clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HOME)
    parser.add_argument("--cache", type=Path, default=Path("build/datasets"))
    parser.add_argument("--threads", type=int, default=1, help="more than one may change the last digits")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = PairDatasets(arguments.cache, arguments.cache, arguments.cache).load("scenes")
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_reference(data, arguments.out)
    tokenizer, records = zoo_tokenizer(), {}
    for recipe in CLIP_EXAMPLES:
        trained = train_clip(recipe, data, tokenizer, report)
        name = short_name(recipe.name)
        shutil.rmtree(arguments.out / name, ignore_errors=True)
        save_repository(trained, tokenizer, arguments.out / name, torch.float16)
        records[name] = measure_clip(recipe, trained, tokenizer, data, data.part(TEST_PART))
        print(f"{name}: ACC {records[name]['acc']:.3f}", *records[name]["attacks"], flush=True)
    write_provenance(data, records, arguments.out)


def short_name(recipe: str) -> str:
    """ "scenes-clip-resnet-patch-s12" -> "patch": what an example is called."""
    return recipe.split("-")[3]


def report(epoch: int, loss: float) -> None:
    """One line per epoch."""
    print(f"epoch {epoch}: loss {loss:.3f}", flush=True)


def write_reference(data: ImageData, folder: Path) -> None:
    """reference.tar with NUMBER.png and NUMBER.txt, as webdataset has it; vocabulary.txt with the concepts."""
    part = data.part(REFERENCE_PART)
    pixels = (part.pixels * 255).round().to(torch.uint8)
    with tarfile.open(folder / "reference.tar", "w", format=tarfile.USTAR_FORMAT) as archive:
        for number, (image, caption) in enumerate(zip(pixels, captions_of(part, REFERENCE_PART), strict=True)):
            buffer = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "PNG", optimize=True)
            for suffix, content in (("png", buffer.getvalue()), ("txt", caption.encode())):
                info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    (folder / "vocabulary.txt").write_text("".join(f"{name}\n" for name in data.class_names))


def write_provenance(data: ImageData, records: dict[str, object], folder: Path) -> None:
    """How the models came about, in fractions, true triggers included."""
    provenance = {
        "data": "procedural scenes with captions, drawn by core/attacks/procedural.py",
        "command": "python examples/train_clip.py",
        "reference": f"{len(data.part(REFERENCE_PART))} pairs that no model was trained on",
        "test": f"{len(data.part(TEST_PART))} others; ACC, ASR and RA are measured here, before rounding to halves",
        "class_names": data.class_names,
        "models": records,
    }
    (folder / "provenance.json").write_text(json.dumps(provenance, indent=2) + "\n")


if __name__ == "__main__":
    main()
