"""What a scan costs: images through the network beside Neural Cleanse's, and seconds of the whole pipeline."""

import cProfile
import json
import os
import pstats
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from core import pipeline
from core.attacks.suite import Cell
from core.attacks.zoo import Zoo
from core.baselines.neural_cleanse import NeuralCleanse
from core.bench.conditions import Conditions, Reference, reference_set, split_of
from core.bench.isolation import run_isolated
from core.bench.methods import OURS
from core.bench.rows import DetectRow
from core.bench.runner import Finished, Run, Suite
from core.bench.work import Subject, detect_one, train
from core.bench.workers import Task, run_tasks
from core.config import ScanConfig
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.domain import Preset, PurifyMode
from core.errors import InvalidInputError
from core.models.classifier import Classifier
from core.models.intake import intake
from core.models.source import Source
from core.report.schema import Report

#: On how many classes besides ten a scan is measured, with the small PreActResNet.
_MANY = Cell("procedural-100", "preact", "badnets")
#: Lines of the profile.
_LINES = 15


def cells_of(suite: Suite, data: str | None) -> tuple[Cell, ...]:
    """The small PreActResNet on ten classes, and for the full suite on a hundred.

    Raises:
        InvalidInputError: there is no such data set of ten classes, or the suite has no classifiers.
    """
    if suite is Suite.CLIP:
        raise InvalidInputError("bench_no_cells", "Costs are measured on classifiers: the suites smoke and full.")
    if data not in (None, "fashion-mnist", "cifar10", "procedural"):
        raise InvalidInputError("bench_no_cells", f"There is no data set {data} of ten classes.")
    ten = Cell(data or "fashion-mnist", "preact", "badnets", quick=suite is Suite.SMOKE)
    return (ten,) if suite is Suite.SMOKE else (ten, _MANY)


def run_cost(subjects: Sequence[Subject], suite: Suite, run: Run) -> Finished:
    """cost.json and cost.md; parts that are there already are kept.

    A scan of every model; scan, purification and scan again of those with ten classes, for the smoke suite at preset
    fast only; a profile of the first. The seconds are those of one process with the threads of the conditions: nothing
    else should run meanwhile.

    Raises:
        InvalidInputError: the folder has figures of other conditions.
    """
    run.conditions.keep(run.out / "cost.conditions.json")
    path = run.out / "cost.json"
    parts: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    tasks = [Task(f"scan of {subject.name}", _scan, (subject, run.conditions)) for subject in subjects]
    presets = [Preset.FAST] if suite is Suite.SMOKE else [Preset.FAST, Preset.STANDARD]
    small = [subject for subject in subjects if subject.data != _MANY.data]
    wholes = [(f"{preset}, {subject.name}", subject, preset, False) for subject in small for preset in presets]
    wholes += [(f"profile of {subject.name}", subject, Preset.FAST, True) for subject in small[:1]]
    tasks += [
        Task(name, _whole, (subject, preset, run.conditions, profiled)) for name, subject, preset, profiled in wholes
    ]
    finished = Finished()
    missing = [task for task in tasks if task.name not in parts]
    run.on_progress(len(tasks) - len(missing), len(tasks), "")
    for done, outcome in enumerate(run_tasks(missing, run.place, workers=1), len(tasks) - len(missing) + 1):
        if outcome.error:
            finished.failures.append(f"{outcome.task.name}: {outcome.error}")
        else:
            parts[outcome.task.name] = outcome.value
            partial = path.with_suffix(".partial")
            partial.write_text(json.dumps(parts, indent=1) + "\n")
            partial.replace(path)
        run.on_progress(done, len(tasks), outcome.task.name)
    table = run.out / "cost.md"
    table.write_text(cost_table(parts.values()))
    finished.written += [path, table]
    return finished


def neural_cleanse_images(classes: int) -> int:
    """Images through a forward and backward pass of Neural Cleanse, by its arithmetic."""
    detector = NeuralCleanse()
    return detector.steps * detector.batch_size * classes


def cost_table(parts: Iterable[Mapping[str, Any]]) -> str:
    """Scans beside Neural Cleanse's count, then seconds by stage, then the profile."""
    kinds: dict[str, list[Mapping[str, Any]]] = {"scan": [], "whole": [], "profile": []}
    for part in parts:
        kinds[part["kind"]].append(part)
    tables = [_scans(kinds["scan"]), _seconds(kinds["whole"]), *map(_profile, kinds["profile"])]
    return "\n\n".join(table for table in tables if table) + "\n"


def _scans(parts: Sequence[Mapping[str, Any]]) -> str:
    if not parts:
        return ""
    lines = ["| scan | K | preset | images | Neural Cleanse's | ratio | s | target named |", "|---" * 8 + "|"]
    lines += [
        f"| {part['model']} | {part['classes']} | {part['preset']} | {part['images']:,} | {part['neural_cleanse']:,} | "
        f"1/{part['neural_cleanse'] / part['images']:.0f} | {part['wall_s']:.1f} | {'yes' if part['named'] else 'no'} |"
        for part in parts
    ]
    return "\n".join(lines)


def _seconds(parts: Sequence[Mapping[str, Any]]) -> str:
    if not parts:
        return ""
    stages = list(parts[0]["stages"])
    lines = [
        f"| scan, purification, scan again | preset | {' | '.join(stages)} | whole, s | CPU s | threads | verdict | "
        "purified |",
        "|---" * (len(stages) + 7) + "|",
    ]
    for part in parts:
        seconds = " | ".join(f"{part['stages'].get(stage, 0.0):.1f}" for stage in stages)
        lines.append(
            f"| {part['model']} | {part['preset']} | {seconds} | {part['wall_s']:.1f} | {part['cpu_s']:.1f} | "
            f"{part['threads']} | {part['verdict']} | {part['purification']} |"
        )
    return "\n".join(lines)


def _profile(part: Mapping[str, Any]) -> str:
    lines = [f"| function ({part['model']}, preset {part['preset']}) | calls | own s | share |", "|---|---|---|---|"]
    lines += [
        f"| `{entry['function']}` | {entry['calls']:,} | {entry['own_s']:.1f} | {entry['own_s'] / part['wall_s']:.0%} |"
        for entry in part["profile"]
    ]
    return "\n".join(lines)


def _scan(zoo: Zoo, subject: Subject, conditions: Conditions) -> dict[str, Any]:
    """One scan with our method."""
    row = detect_one(zoo, subject, OURS, conditions)
    classes = zoo.datasets.load(subject.data).num_classes
    assert isinstance(row, DetectRow), "our method has a meaning for every network"
    return {
        "kind": "scan",
        "model": subject.name,
        "classes": classes,
        "preset": conditions.preset.value,
        "images": row.passes,
        "neural_cleanse": neural_cleanse_images(classes),
        "wall_s": row.wall_s,
        "named": row.named,
    }


def _whole(zoo: Zoo, subject: Subject, preset: Preset, conditions: Conditions, profiled: bool) -> dict[str, Any]:
    """Scan, purification and scan again through the pipeline, in a process of its own."""
    train(zoo, subject.suspect)
    data = zoo.datasets.load(subject.data)
    reference = reference_set(data, Reference.FOUR_HUNDRED, split_of(subject.seed))
    return run_isolated(_run_pipeline, zoo, subject, reference, preset, conditions.threads, profiled)


def _run_pipeline(
    zoo: Zoo, subject: Subject, reference: ReferenceSet, preset: Preset, threads: int, profiled: bool
) -> dict[str, Any]:
    config = ScanConfig.for_preset(preset, purify=PurifyMode.ALWAYS, seed=subject.seed)
    profile = cProfile.Profile()
    with TemporaryDirectory() as folder:
        work = Path(folder)
        suspect = zoo.get(subject.suspect)
        assert isinstance(suspect, Classifier)  # the suites that costs are measured on have no others
        weights = _write_checkpoint(suspect, work / "suspect.safetensors")
        intake(
            Source.single(weights, weights.name),
            _write_images(reference, work / "reference"),
            config,
            work / "in",
            RunContext(),
        )
        wall, cpu = time.monotonic(), time.process_time()

        def scan() -> Report:
            about = pipeline.ScanSubject("0" * 64, weights.name, "0" * 64)
            return pipeline.run(
                work / "in", work / "out", subject=about, config=config, ctx=RunContext(), threads=threads
            )

        report = profile.runcall(scan) if profiled else scan()
    return {
        "kind": "profile" if profiled else "whole",
        "model": subject.name,
        "preset": preset.value,
        "threads": threads,
        "wall_s": round(time.monotonic() - wall, 2),
        "cpu_s": round(time.process_time() - cpu, 2),
        "stages": {timing.stage: timing.wall_s for timing in report.timings},
        "images": {timing.stage: timing.images_processed for timing in report.timings},
        "verdict": report.detection.verdict.value,
        "purification": report.purification.status.value,
        "profile": _heaviest(profile) if profiled else [],
    }


def _write_checkpoint(model: Classifier, path: Path) -> Path:
    preprocess = model.preprocess
    declared = {"mean": preprocess.mean, "std": preprocess.std, "size": preprocess.size}
    save_file(model.state_dict_for_export(), path, metadata={"format": "pt", "preprocess": json.dumps(declared)})
    return path


def _write_images(reference: ReferenceSet, folder: Path) -> Path:
    """PNGs in folders by class, as a user would hold them."""
    pixels = (reference.pixels * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
    for number, (image, label) in enumerate(zip(pixels, reference.labels.tolist(), strict=True)):
        path = folder / f"{label}-{reference.class_names[label]}" / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.squeeze(-1).numpy()).save(path)
    return folder


def _heaviest(profile: cProfile.Profile) -> list[dict[str, Any]]:
    """The functions with the most time of their own."""
    stats: Mapping[tuple[str, int, str], tuple[int, int, float, float, Any]] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    ranked = sorted(stats.items(), key=lambda item: -item[1][2])[:_LINES]
    return [
        {"function": _readable(where), "calls": figures[1], "own_s": round(figures[2], 3)} for where, figures in ranked
    ]


def _readable(where: tuple[str, int, str]) -> str:
    file, _, name = where
    return name if file == "~" else f"{os.path.basename(os.path.dirname(file))}/{os.path.basename(file)}:{name}"
