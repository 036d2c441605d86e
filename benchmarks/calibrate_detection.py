"""Rescan validation models and fit the calibration of detection; examples and test models are never touched.

    python benchmarks/calibrate_detection.py scan --zoo DIR [--zoo DIR] --cache DIR --evidence FILE
    python benchmarks/calibrate_detection.py fit --evidence FILE

`scan` inverts every model with a recipe seed from 100 on once (per engine version, preset and scan seed) and appends a
JSON line; it can be stopped and started again while the zoo grows. `fit` writes the statistics of the clean models to
core/detection/calibration.json, where groups that the evidence says nothing about stay as they are, and prints the
score of every model: of a clean one against the others of its group.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from core import ENGINE_VERSION, devices
from core.attacks.clip.pairs import PairDatasets
from core.attacks.clip.zoo import WEIGHTS, load_repository
from core.attacks.datasets import Datasets, ImageData
from core.attacks.training import NORMALIZATION
from core.attacks.zoo import EMBEDDED
from core.config import Preprocess, Preset, ScanConfig
from core.context import RunContext
from core.detection.calibration import CALIBRATION, Calibration, group_of
from core.detection.statistics import STATISTICS
from core.inversion.engine import invert
from core.inversion.result import Evidence, InversionResult
from core.models.architectures import build
from core.models.classifier import Classifier
from core.models.protocol import SuspectModel

FIRST_VALIDATION_SEED = 100
REFERENCE = "validation-reference"


def suspects(zoos: list[Path]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """(path without suffix, record) of every validation model, clean ones first."""
    found = []
    for zoo in zoos:
        for path in sorted(zoo.glob("*.json")):
            record = json.loads(path.read_text())
            stem = path.with_suffix("")
            trained = (_is_clip(record) and (stem / WEIGHTS).exists()) or path.with_suffix(".safetensors").exists()
            if record.get("seed", 0) >= FIRST_VALIDATION_SEED and trained:
                found.append((stem, record))
    return iter(sorted(found, key=lambda item: item[1]["truth"] != "clean"))


def _is_clip(record: dict[str, Any]) -> bool:
    return str(record["recipe"]["architecture"]).startswith("clip-")


def load(stem: Path, recipe: dict[str, Any], data: ImageData) -> SuspectModel:
    """A zoo model behind its own preprocessing; the targets of a CLIP are the concepts of its data set."""
    if stem.is_dir():
        return load_repository(stem, data.class_names)
    network = build(recipe["architecture"], data.num_classes, data.shape[0])
    network.load_state_dict(load_file(stem.with_suffix(".safetensors")))
    values = NORMALIZATION[recipe["dataset"]]
    return Classifier(network, Preprocess(values.mean, values.std, data.shape[1:]), data.shape, data.num_classes)


def measure(model: SuspectModel, data: ImageData, preset: Preset, seed: int) -> dict[str, Any]:
    """One inversion: statistics and all evidence."""
    started, busy = time.monotonic(), time.process_time()
    config = ScanConfig.for_preset(preset).inversion
    result = invert(model, data.part(REFERENCE), config, seed=seed, ctx=RunContext())
    return {
        "group": group_of(model),
        "evidence": [asdict(item) for item in result.evidence],
        "found": [[trigger.target, trigger.operator.name, round(trigger.energy, 3)] for trigger in result.triggers],
        "images": result.images_processed,
        "looked": result.images_looked,
        "wall_s": round(time.monotonic() - started, 1),
        "cpu_s": round(time.process_time() - busy, 1),
    }


def read(evidence: Path) -> list[dict[str, Any]]:
    """Rows of this engine version."""
    lines = evidence.read_text().splitlines() if evidence.exists() else []
    return [row for row in map(json.loads, lines) if row["engine"] == ENGINE_VERSION]


def statistics_of(row: dict[str, Any]) -> dict[str, float | None]:
    """Computed from the evidence, so that a new statistic needs no new scan; rounded, for the file's sake."""
    result = InversionResult((), {}, (), 0, evidence=tuple(Evidence(**item) for item in row["evidence"]))
    values = {name: STATISTICS.get(name).measure(result) for name in STATISTICS}
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def scan(arguments: argparse.Namespace) -> None:
    """Append to the evidence what is not there yet."""
    devices.set_threads(arguments.threads)
    done = {(row["name"], row["preset"], row["scan_seed"]) for row in read(arguments.evidence)}
    sources = (arguments.cifar, arguments.fashion, arguments.cache)
    datasets = {False: Datasets(*sources), True: PairDatasets(*sources)}
    for stem, record in suspects(arguments.zoo):
        key = (stem.name, arguments.preset, arguments.seed)
        if key in done or arguments.only not in stem.name:
            continue
        data = datasets[_is_clip(record)].load(record["recipe"]["dataset"])
        model = load(stem, record["recipe"], data)
        row = {"engine": ENGINE_VERSION, "name": stem.name, "preset": arguments.preset, "scan_seed": arguments.seed}
        row |= {"truth": record["truth"], "recipe_seed": record["seed"], "acc": record["acc"]}
        row |= {"attacks": record["attacks"]}
        row |= measure(model, data, Preset(arguments.preset), arguments.seed)
        with arguments.evidence.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(stem.name, row["found"][:3], row["images"], row["cpu_s"], flush=True)


def fit(arguments: argparse.Namespace) -> None:
    """The clean models' statistics by group, and what they say about every model."""
    rows = [row for row in read(arguments.evidence) if row["preset"] == arguments.preset]
    clean = [row for row in rows if row["truth"] == "clean" and row["scan_seed"] == arguments.seed]
    groups: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in clean:
        groups.setdefault(row["group"], {})[row["name"]] = statistics_of(row)
    groups = {**Calibration.load().groups, **groups}
    calibration = {"identifier": arguments.identifier, "engine": ENGINE_VERSION, "groups": groups}
    CALIBRATION.write_text(json.dumps(calibration, indent=1, sort_keys=True) + "\n")
    committed = Calibration.load()
    for row in rows:
        without = row["name"] if row["truth"] == "clean" else None
        score = committed.score(statistics_of(row), row["group"], without=without)
        planted = [attack["target"] for attack in row["attacks"]]
        weak = any(attack["asr"] < EMBEDDED for attack in row["attacks"])
        print(
            f"{row['name'][:48]:48} {row['truth'][:5]:5} {score.value:6.2f} / {score.threshold:.2f} {score.leading:15}"
            f" p {score.p_value:.2g} {score.group} n {score.models}"
            f" planted {planted}{' (not embedded)' * weak} found {row['found'][:3]}"
        )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["scan", "fit"])
    parser.add_argument("--zoo", type=Path, action="append", default=[])
    parser.add_argument("--cache", type=Path, default=Path("build/cache"))
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--cifar", type=Path, default=Path("build/data"))
    parser.add_argument("--evidence", type=Path, default=Path("build/calibration-evidence.jsonl"))
    parser.add_argument("--identifier", default="small-images-4")
    parser.add_argument("--preset", choices=[preset.value for preset in Preset], default=Preset.STANDARD.value)
    parser.add_argument("--only", default="")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    {"scan": scan, "fit": fit}[arguments.action](arguments)


if __name__ == "__main__":
    main()
