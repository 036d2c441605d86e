"""Fix the detection thresholds on validation models; never on examples or test models.

    python benchmarks/calibrate_detection.py scan --zoo DIR --cache DIR --evidence FILE
    python benchmarks/calibrate_detection.py fix --evidence FILE

`scan` inverts every validation model (recipe seed >= 100) once and appends what was measured; `fix` reads that and
writes core/detection/calibration.json.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from core import devices
from core.attacks.datasets import ImageData, cifar10, fashion_mnist
from core.attacks.training import NORMALIZATION
from core.config import Preprocess, Preset, ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.detection.statistics import STATISTICS
from core.inversion.engine import invert
from core.models.architectures import build
from core.models.classifier import Classifier

FIRST_VALIDATION_SEED = 100
#: Thresholds keep this distance from the most suspicious clean model, as a ratio.
SAFETY = 0.7
#: The same where no validation model shows that the statistic catches anything.
UNPROVEN = 0.5
#: A flip rate below a half, or less information than a coin toss, convicts nobody.
FLOORS = {"window_flip": 0.5, "information": 0.5}
#: No validation model was planted with these, and clean ones vary several times over: one unit of energy at most.
CEILINGS = {"source_energy": 1.0, "warp_energy": 1.0}
#: Scores within this share below the threshold are too close to call.
BAND = 0.1
CALIBRATION = Path(__file__).parents[1] / "core" / "detection" / "calibration.json"


def suspects(zoo: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, record) of every validation model."""
    for path in sorted(zoo.glob("*.json")):
        record = json.loads(path.read_text())
        if record["seed"] >= FIRST_VALIDATION_SEED and path.with_suffix(".safetensors").exists():
            yield path.stem, record


def load(zoo: Path, name: str, recipe: dict[str, Any], data: ImageData) -> Classifier:
    """A zoo model behind its own preprocessing."""
    network = build(recipe["architecture"], data.num_classes, data.shape[0])
    network.load_state_dict(load_file(zoo / f"{name}.safetensors"))
    values = NORMALIZATION[recipe["dataset"]]
    return Classifier(network, Preprocess(values.mean, values.std, data.shape[1:]), data.shape, data.num_classes)


def measure(model: Classifier, reference: ReferenceSet, seed: int) -> dict[str, Any]:
    """One standard inversion: statistics and all evidence."""
    config = ScanConfig.for_preset(Preset.STANDARD)
    started, busy = time.monotonic(), time.process_time()
    result = invert(model, reference, config.inversion, seed=seed, ctx=RunContext())
    return {
        "statistics": {name: STATISTICS.get(name).measure(result) for name in STATISTICS},
        "evidence": [asdict(item) for item in result.evidence],
        "first_target": result.triggers[0].target,
        "images": result.images_processed,
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(time.process_time() - busy, 1),
    }


def scan(arguments: argparse.Namespace) -> None:
    """Append to the evidence what is not there yet."""
    devices.set_threads(arguments.threads)
    rows = json.loads(arguments.evidence.read_text()) if arguments.evidence.exists() else []
    done = {(row["name"], row["scan_seed"]) for row in rows}
    data: dict[str, ImageData] = {}
    for name, record in suspects(arguments.zoo):
        recipe = record["recipe"]
        if (name, arguments.seed) in done or arguments.only not in name:
            continue
        kind = recipe["dataset"]
        if kind not in data:
            small = kind == "fashion-mnist"
            data[kind] = fashion_mnist(arguments.fashion) if small else cifar10(arguments.cifar, arguments.cache)
        model = load(arguments.zoo, name, recipe, data[kind])
        measured = measure(model, data[kind].part("validation-reference"), arguments.seed)
        truth = {"truth": record["truth"], "targets": [attack["target"] for attack in record["attacks"]]}
        rows.append({"name": name, "scan_seed": arguments.seed, **truth, **measured})
        arguments.evidence.write_text(json.dumps(rows, indent=1))
        print(
            name,
            truth,
            {k: v and round(v, 3) for k, v in measured["statistics"].items()},
            measured["cpu_s"],
            flush=True,
        )


def names(rows: list[dict[str, Any]]) -> str:
    """Models, each once."""
    return ", ".join(sorted({row["name"] for row in rows}))


def threshold_between(clean: list[float], backdoored: list[float], name: str) -> float:
    """Half way (geometrically) between the most suspicious clean model and the least suspicious model that stands
    out from it by SAFETY, but no closer to the clean one than SAFETY; without such a model, far from the clean ones.
    """
    if STATISTICS.get(name).direction == "below":
        edge = min(clean)
        caught = [value for value in backdoored if value < SAFETY * edge]
        between = math.sqrt(edge * max(caught)) if caught else UNPROVEN * edge
        return min(SAFETY * edge, between, CEILINGS.get(name, math.inf))
    edge = max(max(clean), 1e-3)
    caught = [value for value in backdoored if value > edge / SAFETY]
    between = max(edge / SAFETY, math.sqrt(edge * min(caught)) if caught else edge / UNPROVEN)
    return max(between, FLOORS.get(name, 0.0))


def fix(arguments: argparse.Namespace) -> None:
    """Thresholds at a distance from all clean models, and how many backdoored ones they catch."""
    rows = json.loads(arguments.evidence.read_text())
    clean = [row for row in rows if row["truth"] == "clean"]
    guilty = [row for row in rows if row["truth"] != "clean"]
    thresholds = {}
    for name in STATISTICS:
        innocent = [row["statistics"][name] for row in clean if row["statistics"][name] is not None]
        caught = [row["statistics"][name] for row in guilty if row["statistics"][name] is not None]
        thresholds[name] = round(threshold_between(innocent, caught, name), 3)
    calibration = {
        "identifier": arguments.identifier,
        "thresholds": thresholds,
        "band": BAND,
        "clean_models": len({row["name"] for row in clean}),
        "backdoored_models": len({row["name"] for row in guilty}),
        "note": (
            f"Thresholds lie between validation models that were clean ({names(clean)}) and backdoored "
            f"({names(guilty)}), at preset standard, at most {SAFETY:.0%} of the way to the most suspicious clean one. "
            "Small networks on Fashion-MNIST and CIFAR-10 only: for other kinds the false-alarm rate is unknown."
        ),
    }
    CALIBRATION.write_text(json.dumps(calibration, indent=2) + "\n")
    for row in rows:
        margins = {
            name: (threshold / value if STATISTICS.get(name).direction == "below" else value / threshold)
            for name, threshold in thresholds.items()
            if (value := row["statistics"][name])
        }
        name = max(margins, key=lambda key: margins[key])
        print(f"{row['name']:32} {row['truth']:10} {margins[name]:6.2f} by {name:16} targets {row['targets']}")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["scan", "fix"])
    parser.add_argument("--zoo", type=Path, default=Path("build/zoo"))
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--cifar", type=Path, default=Path("build/data"))
    parser.add_argument("--evidence", type=Path, default=Path("build/calibration-evidence.json"))
    parser.add_argument("--identifier", default="small-images-1")
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    {"scan": scan, "fix": fix}[arguments.action](arguments)


if __name__ == "__main__":
    main()
