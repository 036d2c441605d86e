"""The acceptance on natural images: four CIFAR-10 models of our own training, 500 reference images.

    python benchmarks/zoo.py --out ZOO --only cifar-test
    python benchmarks/natural_images.py --zoo ZOO --out build/natural-images

Each model goes through the product's own path (two child processes, preset as asked). Then, with the true trigger that
only this script knows: ACC, ASR and RA before and after, beside plain fine-tuning on the same images, and re-attack
curves beside those of the clean model of the same architecture. One JSON line per model; run again to resume.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch
import torch.nn.functional as F
from natural_images_table import render
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from core import ENGINE_VERSION
from core.attacks.datasets import cifar10
from core.attacks.training import Recipe
from core.attacks.zoo import CIFAR_TEST, CIFAR_VALIDATION, load
from core.config import ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.domain import ArtifactRole, Preset
from core.evaluation.metrics import accuracy, triggered_rates
from core.evaluation.reattack import reattack_curve
from core.models.classifier import Classifier
from core.report.schema import Report
from worker.local import scan_locally

LEARNING_RATES = (0.003, 0.01, 0.03)
#: Test images the re-attack is measured on, and how many the attacker chooses from; disjoint.
_MEASURED, _ATTACKERS = 1000, 500
_SEED = 1


def main() -> None:
    """Scan, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", type=Path, required=True, help="where benchmarks/zoo.py put the models")
    parser.add_argument("--out", type=Path, default=Path("build/natural-images"))
    parser.add_argument("--group", choices=["test", "validation"], default="test")
    parser.add_argument("--only", nargs="*", default=[], help="names of models; all of the group without it")
    parser.add_argument("--preset", type=Preset, default=Preset.STANDARD)
    parser.add_argument("--datasets", type=Path, default=Path(os.environ.get("ASSAY_DATASETS_DIR", ".")))
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "assay")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    data = cifar10(arguments.datasets, arguments.cache)
    reference, test = data.part(f"{arguments.group}-reference"), data.part(f"{arguments.group}-test")
    folder = write_reference(reference, arguments.out / "reference")
    results = arguments.out / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    recipes = CIFAR_TEST if arguments.group == "test" else CIFAR_VALIDATION
    for recipe in recipes:
        if any(row["name"] == recipe.name for row in done) or (arguments.only and recipe.name not in arguments.only):
            continue
        twin = next(r for r in recipes if r.architecture == recipe.architecture and r.attack is None)
        clean = load(twin, arguments.zoo)
        row = examine(recipe, clean, arguments, folder, reference, test)
        done.append(row)
        with results.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(f"{recipe.name}: {row['verdict']}, {row['purification']['status']}, {row['wall_s']} s", flush=True)
    (arguments.out / "table.md").write_text(render(done))
    print(f"written: {arguments.out / 'table.md'}")


def write_reference(part: ReferenceSet, folder: Path) -> Path:
    """The reference set as a user would hold it: PNGs in class-named folders."""
    pixels = (part.pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    for number, (image, label) in enumerate(zip(pixels, part.labels.tolist(), strict=True)):
        path = folder / f"{label}-{part.class_names[label]}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).save(path)
    return folder


def examine(
    recipe: Recipe,
    clean: Classifier,
    arguments: argparse.Namespace,
    folder: Path,
    reference: ReferenceSet,
    test: ReferenceSet,
) -> dict[str, Any]:
    """Everything about one model, as it goes into its JSON line."""
    suspect = load(recipe, arguments.zoo)
    started = time.monotonic()
    config = ScanConfig.for_preset(arguments.preset)
    with TemporaryDirectory() as work:
        report, result = scan_locally(
            arguments.zoo / f"{recipe.name}.safetensors",
            folder,
            config,
            lambda event: None,
            lambda: False,
            Path(work),
            threads=arguments.threads,
        )
        wall_s = time.monotonic() - started
        purified = purified_model(suspect, report, result)
    row = {
        "name": recipe.name,
        "architecture": recipe.architecture,
        "seed": recipe.seed,
        "truth": "clean" if recipe.attack is None else "backdoored",
        "true_target": None if recipe.attack is None else recipe.attack.targets[0],
        "verdict": report.detection.verdict.value,
        "score": report.detection.score,
        "threshold": report.detection.threshold,
        "targets": [finding.model_dump() for finding in report.detection.targets],
        "statistics": [statistic.model_dump() for statistic in report.detection.statistics],
        "purification": report.purification.model_dump(mode="json"),
        "timings": [timing.model_dump() for timing in report.timings],
        "wall_s": round(wall_s, 1),
        "preset": arguments.preset.value,
        "engine": report.engine.model_dump(),
        "machine": f"{platform.machine()}, {arguments.threads} thread(s), engine {ENGINE_VERSION}",
        "acc_before": accuracy(suspect.target_log_posterior, test.pixels, test.labels),
    }
    if recipe.attack is not None:
        trigger, target = recipe.attack.triggers[0], recipe.attack.targets[0]
        assert target is not None

        def target_of(labels: Tensor) -> Tensor:
            return torch.full_like(labels, target)

        models = {"suspect": suspect, "clean": clean, "fine_tuned": fine_tuned(suspect, reference)}
        if purified is not None:
            models["purified"] = purified
        row["models"] = {name: measure(model, test, trigger, target_of) for name, model in models.items()}
        row["reattack"] = {
            name: curves(model, test, trigger, target_of, (0.01,) if name == "fine_tuned" else LEARNING_RATES)
            for name, model in models.items()
            if name != "suspect"
        }
    return row


def purified_model(suspect: Classifier, report: Report, result: Path) -> Classifier | None:
    """The published weights, in the suspect's own code; None if nothing was published."""
    for artifact in report.artifacts:
        if artifact.role is ArtifactRole.PURIFIED_SAFETENSORS:
            model = suspect.clone()
            model.module.load_state_dict(load_file(result / artifact.filename), strict=True)
            return model
    return None


def fine_tuned(suspect: Classifier, reference: ReferenceSet) -> Classifier:
    """Plain fine-tuning on the reference images: the baseline that leaves a backdoor where it is."""
    model = suspect.clone()
    generator = torch.Generator().manual_seed(_SEED)
    optimizer = torch.optim.SGD(model.trainable_parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    for _ in range(12):
        for rows in torch.randperm(len(reference), generator=generator).split(64):
            loss = F.nll_loss(model.target_log_posterior(reference.pixels[rows]), reference.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def measure(
    model: Classifier, test: ReferenceSet, trigger: Callable[[Tensor], Tensor], target_of: Callable[[Tensor], Tensor]
) -> dict[str, float]:
    """ACC, ASR, RA."""
    asr, ra = triggered_rates(model.target_log_posterior, test.pixels, test.labels, trigger, target_of)
    return {"acc": accuracy(model.target_log_posterior, test.pixels, test.labels), "asr": asr, "ra": ra}


def curves(
    model: Classifier,
    test: ReferenceSet,
    trigger: Callable[[Tensor], Tensor],
    target_of: Callable[[Tensor], Tensor],
    rates: tuple[float, ...],
) -> dict[str, dict[int, float]]:
    """ASR after retuning with the true trigger, per learning rate and number of steps."""
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(_SEED))
    attackers, measured = test.subset(order[:_ATTACKERS]), test.subset(order[_ATTACKERS : _ATTACKERS + _MEASURED])
    return {
        str(lr): reattack_curve(model, attackers, measured, trigger, target_of, lr=lr, seed=_SEED, ctx=RunContext())
        for lr in rates
    }


if __name__ == "__main__":
    main()
