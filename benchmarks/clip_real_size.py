"""CLIPs of real size on a CPU: inspection, inversion, unlearning and export, with the memory and the seconds they take.

Weights are random: nothing is found and nothing is kept, what is measured is that it runs, what it holds and how long a
step takes. `python benchmarks/clip_real_size.py --models ViT-B-32 RN50 --out FOLDER` writes one JSON line per model.
Every model runs in a process of its own. Memory is the largest resident set of a stage less that of the process
before it read any model, in multiples of the weights (float32, both towers).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_WORDS = ("dog", "cat")
#: Targets of the scan whose cost is told.
_TARGETS = tuple(f"thing {number}" for number in range(64))
#: Of a step, for the real-size check; a scan takes more images at once, and its activations grow with them.
_BATCH = 8
_IMAGES = 16
#: Dense float32 throughput that a step reaches, in FLOP per second, stated and not measured: half of TF32's peak.
_ACCELERATORS = {"A100": 78e12, "H100": 240e12}


class _Memory:
    """Watches the resident set of this process."""

    def __init__(self) -> None:
        import psutil

        self._process = psutil.Process()
        self.base = self.peak = self._process.memory_info().rss
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak = max(self.peak, self._process.memory_info().rss)
            time.sleep(0.02)

    @contextmanager
    def stage(self, name: str, record: dict[str, Any]) -> Iterator[None]:
        """Adds to `record`: seconds, of the processor too (the machine may be busy), and the largest resident set."""
        self.peak, start, busy = self._process.memory_info().rss, time.monotonic(), time.process_time()
        yield
        record[name] = {
            "wall_s": round(time.monotonic() - start, 2),
            "cpu_s": round(time.process_time() - busy, 2),
            "peak_bytes": max(self.peak, self._process.memory_info().rss) - self.base,
        }
        print(name, record[name], file=sys.stderr)


def _write_model(name: str, folder: Path) -> int:
    """An open_clip repository with random weights; returns the bytes of its weights."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = open_clip.get_model_config(name)
    assert config is not None
    torch.manual_seed(0)
    network = open_clip.create_model(name)
    state = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    return sum(value.numel() * value.element_size() for value in state.values())


def _write_pairs(folder: Path) -> None:
    import numpy as np
    from PIL import Image

    generator = np.random.default_rng(0)
    rows = ["file,caption"]
    for number in range(_IMAGES):
        pixels = generator.integers(0, 256, (224, 224, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        rows.append(f"{number}.png,a photo of a {_WORDS[number % len(_WORDS)]}")
    (folder / "captions.csv").write_text("\n".join(rows))


def _measure(name: str, scratch: Path) -> dict[str, Any]:
    import torch

    from core.config import InversionConfig, ScanConfig, UnlearningConfig
    from core.context import RunContext
    from core.inspection import inspect
    from core.inversion.engine import invert
    from core.models.intake import intake
    from core.models.loading import load_suspect
    from core.models.source import Source, SourceFile
    from core.unlearning.purify import purify

    folder, pairs = scratch / "model", scratch / "pairs"
    source = Source(tuple(SourceFile(path.name, path) for path in sorted(folder.iterdir())))
    config = ScanConfig(
        vocabulary=_WORDS,
        inversion=InversionConfig(screen_batch=2, batch_size=2, screen_steps=2, refine_steps=1, survivors=1),
        unlearning=UnlearningConfig(rounds=1, steps=2, batch_size=_BATCH, reattack_steps=2, utility_budget=1.0),
    )
    weights = (folder / "open_clip_model.safetensors").stat().st_size
    record: dict[str, Any] = {"model": name, "weights_bytes": weights, "torch": torch.__version__, "threads": 1}
    torch.set_num_threads(1)
    ctx, memory = RunContext(), _Memory()
    with memory.stage("inspect", record):
        report = inspect(source, ScanConfig(vocabulary=_TARGETS), ctx, threads=1)
    assert report.outcome == "accepted", report.findings
    assert report.cost is not None
    record["image_s"] = round(report.cost.image_s, 4)
    record["plan"] = {"scan_images": report.cost.scan_images, "purify_images": report.cost.purify_images}
    with memory.stage("intake", record):
        intake(source, pairs, config, scratch / "intake", ctx)
    with memory.stage("load", record):
        suspect = load_suspect(scratch / "intake", config)
        reference = suspect.reference()
        assert reference is not None
    record["tower_bytes"] = sum(value.numel() * 4 for value in suspect.model.module.state_dict().values())
    with memory.stage("invert", record):
        found = invert(suspect.model, reference, config.inversion, seed=0, ctx=ctx)
    record["invert"]["images"] = found.images_processed
    with memory.stage("unlearn", record):
        purified = purify(
            suspect.model,
            found,
            reference,
            config.unlearning,
            config.inversion,
            seed=0,
            ctx=ctx,
            is_settled=lambda _, __: False,
        )
    record["unlearn"] |= {"images": purified.images_processed, "steps": config.unlearning.steps, "batch": _BATCH}
    with memory.stage("export", record):
        published = suspect.as_published(purified.model)
        manifest = suspect.package.export_repository(
            suspect.export_state(purified.model), scratch / "intake", scratch / "purified.zip"
        )
    assert len(manifest.files) == len(source.files)
    record["moved"] = round(_moved(suspect.model.module, published.module), 6)
    stages = ("inspect", "intake", "load", "invert", "unlearn", "export")
    for stage in stages:
        record[stage]["peak_in_weights"] = round(record[stage]["peak_bytes"] / weights, 2)
    record["accelerators"] = _extrapolated(record, suspect.model.module, reference.pixels[:1])
    return record


def _moved(before: Any, after: Any) -> float:
    pairs = zip(before.parameters(), after.parameters(), strict=True)
    return max(float((one - other).detach().abs().max()) for one, other in pairs)


def _extrapolated(record: dict[str, Any], tower: Any, pixels: Any) -> dict[str, Any]:
    """FLOP of an image through a forward and backward pass, and the seconds of a whole scan from it."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        tower(pixels).sum().backward()
    flop = counter.get_total_flops()
    found: dict[str, Any] = {"flop_per_image": flop}
    for name, rate in _ACCELERATORS.items():
        seconds = {key: round(images * flop / rate, 1) for key, images in record["plan"].items()}
        found[name] = {"assumed_flop_s": rate, "scan_s": seconds["scan_images"], "purify_s": seconds["purify_images"]}
    return found


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", default=["ViT-B-32", "RN50"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, help="the folder of one prepared model: measure that one only")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name in arguments.models:
        if arguments.scratch is not None:
            record = _measure(name, arguments.scratch)
            with (arguments.out / "clip_real_size.jsonl").open("a") as file:
                file.write(json.dumps(record) + "\n")
            continue
        with tempfile.TemporaryDirectory() as scratch:
            (Path(scratch) / "model").mkdir()
            (Path(scratch) / "pairs").mkdir()
            _write_model(name, Path(scratch) / "model")
            _write_pairs(Path(scratch) / "pairs")
            again = [sys.executable, __file__, "--models", name, "--out", str(arguments.out), "--scratch", scratch]
            subprocess.run(again, check=True)


if __name__ == "__main__":
    main()
