"""The dry run: what a model is and whether it could be scanned, without looking for a backdoor.

Runs in the parsing process, behind the same gate and the same sandbox as a scan.
"""

import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from core import devices
from core.config import ScanConfig
from core.context import RunContext
from core.domain import ModelKind
from core.errors import AssayError, InvalidInputError, UnsafeError, UnsupportedError
from core.inversion.engine import LEARNED, TARGETED
from core.inversion.screening import blend_budget, budget, source_budget
from core.models.architectures import build
from core.models.clip.blueprint import ClipBlueprint
from core.models.clip.texts import MAX_CLUSTERS
from core.models.clip.tokenizers import open_tokenizer
from core.models.intake import choose_size, describe_model
from core.models.repository.layouts import Repository
from core.models.repository.opening import Opened, open_model, sort_files
from core.models.source import Source
from core.report.inspection import Cost, Finding, InspectionReport, Network, Preprocessing
from core.report.schema import FileInfo, NotScanned

_TIMED_IMAGES = 4
_REFERENCE = (
    "A reference set: clean images, some tens per class. Without one the verdict is backdoored or inconclusive, never "
    "clean, and nothing can be purified."
)
_PAIRS = (
    "A reference set: clean images with captions, or in class folders, some hundreds. Without one the verdict is "
    "backdoored or inconclusive, never clean, and nothing can be purified."
)
_VOCABULARY = (
    "A vocabulary: names of what the model tells apart. Without one the class folders of the reference set are the "
    "targets, or its captions, or groups of its images, which have no names."
)
_NORMALISATION = "Mean and standard deviation: no file says them, so the reference images decide, or send preprocess."
_LABELS = "Class names: no file has them, so targets are shown by index."


def inspect(source: Source, config: ScanConfig, ctx: RunContext, *, threads: int = 0) -> InspectionReport:
    """Describes a model. A model that is refused is described as far as that is possible, with the reason.

    Args:
        source: the files of the model.
        config: architecture and preprocess may be asked for in it; the cost is that of its preset.
        ctx: progress and cancellation.
        threads: CPU threads for the measurement; 0 takes all cores of this process.

    Raises:
        CanceledError: ctx asked to stop.
        OSError: the disk's fault, not the model's.
    """
    with tempfile.TemporaryDirectory(prefix="unpacked-") as scratch:
        try:
            repository = sort_files(source, Path(scratch))
        except InvalidInputError as error:
            return _refused(error)
        try:
            opened = open_model(repository, config, lambda fraction: ctx.progress(0.8 * fraction))
        except InvalidInputError as error:
            return _refused(error, repository)
        unread = _without_tokenizer(opened)
    return _accepted(opened, config, ctx, threads, unread)


def _refused(error: AssayError, repository: Repository | None = None) -> InspectionReport:
    return InspectionReport(
        outcome=_outcome(error),
        findings=[Finding(code=error.code, detail=error.detail, hint=error.hint)],
        layout="" if repository is None else repository.kind.value,
        not_scanned=_not_scanned(repository),
        missing=[error.hint] if error.hint else [],
    )


def _outcome(error: AssayError) -> Any:
    if isinstance(error, UnsafeError):
        return "unsafe"
    return "unsupported" if isinstance(error, UnsupportedError) else "invalid"


def _not_scanned(repository: Repository | None) -> list[NotScanned]:
    ignored = () if repository is None else repository.ignored
    return [NotScanned(path=item.path, reason=item.reason) for item in ignored]


def _without_tokenizer(opened: Opened) -> list[str]:
    """What is missing to read texts with, if anything."""
    if opened.tokenizer is None:
        return []
    try:
        open_tokenizer(opened.text_files, opened.tokenizer)
    except InvalidInputError as error:
        return [f"A tokenizer: {error.detail} {error.hint}"]
    return []


def _accepted(opened: Opened, config: ScanConfig, ctx: RunContext, threads: int, unread: list[str]) -> InspectionReport:
    said = describe_model(opened)
    match, declared = opened.inspection.match, opened.declared
    size, size_source = choose_size(config, declared, match, None)
    shape = (match.in_channels, *size)
    clip = opened.kind is ModelKind.CLIP
    missing = [_PAIRS if clip else _REFERENCE, *unread]
    if not declared.mean:
        missing.append(_NORMALISATION)
    if clip and not config.vocabulary:
        missing.append(_VOCABULARY)
    if not clip and not opened.labels:
        missing.append(_LABELS)
    classes = len(config.vocabulary) if clip else match.num_classes
    network = Network(
        architecture=match.name,
        architecture_source=opened.inspection.source,
        alternatives=said["alternatives"],
        num_classes=classes,
        labels=list(opened.labels),
        input_shape=shape,
        parameters=said["parameters"],
        preprocess=Preprocessing(
            mean=list(declared.mean) if declared.mean else None,
            std=list(declared.std) if declared.std else None,
            size=size,
            crop=opened.preprocessing.crop,
            filter=opened.preprocessing.filter,
            squash=opened.preprocessing.squash,
            source=declared.source if declared.mean else "",
            size_source=size_source,
        ),
    )
    report = InspectionReport(
        outcome="accepted",
        findings=[],
        layout=opened.repository.kind.value,
        kind=opened.kind,
        files=[FileInfo(**file) for file in said["files"]],
        not_scanned=[NotScanned(**item) for item in said["not_scanned"]],
        ignored_fields=said["ignored_fields"],
        network=network,
        missing=missing,
    )
    ctx.progress(0.9)
    try:
        image_s, basis = _measure(opened, shape, devices.set_threads(threads))
    except UnsupportedError as error:  # the network does not take images of that size
        return report.model_copy(update={"outcome": "unsupported", "findings": _refused(error).findings})
    ctx.progress(1.0)
    return report.model_copy(update={"cost": _cost(classes or MAX_CLUSTERS, config, image_s, basis)})


def _measure(opened: Opened, shape: tuple[int, int, int], threads: int) -> tuple[float, str]:
    """Seconds for an image through a forward and backward pass of the network, and how that was found."""
    match = opened.inspection.match
    if opened.blueprint is None:
        module = build(match.name, match.num_classes, match.in_channels).eval()
    elif isinstance(opened.blueprint, ClipBlueprint):
        module = opened.blueprint.image_tower(opened.blueprint.build().eval())
    else:
        module = opened.blueprint.build().eval()
    for parameter in module.parameters():
        parameter.requires_grad_(False)  # the search for a trigger differentiates by the pixels only
    threads = devices.suit_threads(module, threads)
    pixels = torch.zeros((_TIMED_IMAGES, *shape), requires_grad=True)
    seconds = []
    for _ in range(2):  # the first pass warms up
        start = time.perf_counter()
        try:
            module(pixels).sum().backward()
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UnsupportedError(
                "unsupported_input_size",
                f"{match.name} does not take images of {shape[1]} x {shape[2]} ({str(error)[:160]}).",
                "Send preprocess with the size the model was trained with.",
            ) from error
        seconds.append(time.perf_counter() - start)
    basis = (
        f"measured: {_TIMED_IMAGES} images of {shape[1]} x {shape[2]} through this network, {threads} CPU threads, "
        "times the images that the preset plans at most; faster on an accelerator, or if small on several cores"
    )
    return min(seconds) / _TIMED_IMAGES, basis


def _cost(classes: int, config: ScanConfig, image_s: float, basis: str) -> Cost:
    search = sum(budget(classes, config.inversion, family) for family in TARGETED)
    search += blend_budget(config.inversion) + sum(source_budget(config.inversion, family) for family in LEARNED)
    plan = config.unlearning
    # A step: clean images, triggered images, making them, and half of the simulated re-attack's steps on average.
    step = plan.batch_size * (3 + plan.reattack_steps / 2)
    # Every round but the last looks again; the verification does after the last.
    purify = plan.rounds * (plan.steps * step + search)
    return Cost(
        preset=config.preset,
        scan_images=round(search),
        purify_images=round(purify),
        image_s=image_s,
        scan_s=round(search * image_s, 1),
        purify_s=round(purify * image_s, 1),
        basis=basis,
    )
