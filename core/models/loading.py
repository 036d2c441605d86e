"""From an intake folder to a model the engine can work on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from core.config import Preprocess, ScanConfig
from core.data.reference import ReferenceSet, load_reference, load_report
from core.errors import UnsupportedError
from core.models.architectures import build
from core.models.architectures.blueprint import Blueprint
from core.models.classifier import Classifier
from core.models.intake import INSPECTION_FILE, WEIGHTS_FILE
from core.models.package import Package
from core.models.preprocessing import accuracy, choose
from core.models.protocol import SuspectModel
from core.report.schema import ModelInfo, PreprocessInfo, ReferenceInfo


@dataclass(frozen=True, slots=True)
class LoadedSuspect:
    """A suspect ready for the engine, and all that is known about it.

    Attributes:
        model: on the CPU, in evaluation mode.
        package: the files it came in: what the exports need.
        inspection: inspection.json, with the architecture that was chosen.
        preprocess_source: who says mean and std.
        reference_report: reference.json; None without a reference set.
        reference_accuracy: on the labelled reference set; None without labels.
        auxiliary: tensors beside the network's, such as a normalisation's: exports put them back unchanged.
    """

    model: Classifier
    package: Package
    inspection: Mapping[str, Any]
    preprocess_source: str
    reference_report: Mapping[str, Any] | None
    reference_accuracy: float | None
    auxiliary: Mapping[str, Tensor]

    def export_state(self, model: SuspectModel) -> dict[str, Tensor]:
        """What the package's exports take, for a model unlearned from this one."""
        return model.state_dict_for_export() | dict(self.auxiliary)

    def as_published(self, model: SuspectModel) -> SuspectModel:
        """`model` with its weights rounded as the exports round them: what a reader of the files will run."""
        tensors = self.package.as_stored(self.export_state(model))
        published = model.clone()
        load_strictly(published.module, {k: v for k, v in tensors.items() if k not in self.auxiliary})
        return published

    def named(self, reference: ReferenceSet) -> ReferenceSet:
        """`reference` with the model's own class names, if it has any."""
        labels = self.inspection["labels"]
        return replace(reference, class_names=tuple(labels)) if labels else reference

    def describe(self, sha256: str, filename: str) -> ModelInfo:
        """For the report."""
        preprocess = self.model.preprocess
        return ModelInfo(
            sha256=sha256,
            filename=filename,
            size_bytes=self.inspection["file_bytes"],
            container=self.inspection["container"],
            kind="classifier",
            architecture=self.inspection["architecture"],
            architecture_source=self.inspection["architecture_source"],
            num_classes=self.model.num_targets,
            input_shape=self.model.input_shape,
            parameters=sum(parameter.numel() for parameter in self.model.module.parameters()),
            preprocess=PreprocessInfo(
                mean=list(preprocess.mean),
                std=list(preprocess.std),
                size=preprocess.size,
                source=self.preprocess_source,
                crop=self.inspection["crop"],
                filter=self.inspection["filter"],
                squash=self.inspection["squash"],
            ),
            layout=self.inspection["layout"],
            labels=self.inspection["labels"],
            files=self.inspection["files"],
            not_scanned=self.inspection["not_scanned"],
        )

    def describe_reference(self, sha256: str | None) -> ReferenceInfo | None:
        """For the report; None without a reference set."""
        if self.reference_report is None:
            return None
        fields = set(ReferenceInfo.model_fields) - {"sha256"}
        return ReferenceInfo(sha256=sha256 or "", **{key: self.reference_report[key] for key in fields})


def load_suspect(intake_dir: Path, config: ScanConfig) -> LoadedSuspect:
    """Builds the network from our own table and loads the validated tensors strictly.

    Where several networks have exactly these keys and shapes, and where nobody says how pixels were normalised,
    the reference set decides.

    Args:
        intake_dir: what core.models.intake wrote.
        config: the one intake had.

    Raises:
        UnsupportedError: `unsupported_input_size`: the network does not take images of the chosen size.
    """
    inspection = json.loads((intake_dir / INSPECTION_FILE).read_text())
    package = Package.load(intake_dir)
    tensors = load_file(str(intake_dir / WEIGHTS_FILE))
    auxiliary = {key: tensors.pop(key) for key in package.auxiliary}
    reference = load_reference(intake_dir)
    height, width = inspection["input_size"]
    shape = (inspection["in_channels"], int(height), int(width))

    best: tuple[float, str, Classifier, str] | None = None
    names = [inspection["architecture"]]
    if reference is not None and reference.labelled:  # only labels can tell the alternatives apart
        names += inspection["alternatives"]
    for name in names:
        model, source = _load(name, inspection, tensors, package.first.versions, shape, reference)
        score = 0.0
        if reference is not None and reference.labelled:
            score = accuracy(model.target_log_posterior, reference)
        if best is None or score > best[0] + _MARGIN:
            best = (score, name, model, source)
    assert best is not None
    score, inspection["architecture"], model, source = best
    labelled = reference is not None and reference.labelled
    return LoadedSuspect(
        model, package, inspection, source, load_report(intake_dir), score if labelled else None, auxiliary
    )


#: An alternative must beat the first choice by this much.
_MARGIN = 0.02


def _load(
    name: str,
    inspection: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    versions: Mapping[str, Any],
    shape: tuple[int, int, int],
    reference: ReferenceSet | None,
) -> tuple[Classifier, str]:
    if inspection["blueprint"] is not None:
        module = Blueprint.from_json(inspection["blueprint"]).build().eval()
        versions = {}  # shards have none of their own, and libraries of repositories keep none
    else:
        module = build(name, inspection["num_classes"], inspection["in_channels"]).eval()
    load_strictly(module, tensors, versions)
    freeze_unused(module, _probe(module, shape, inspection["num_classes"], name))
    declared = inspection["declared"]
    if declared["mean"]:
        mean, std, source = tuple(declared["mean"]), tuple(declared["std"]), declared["source"]
    else:
        (mean, std), source = choose(module, shape[0], reference)
    preprocess = Preprocess(mean, std, shape[1:])
    return Classifier(module, preprocess, shape, inspection["num_classes"]), source


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], versions: Mapping[str, Any] | None = None) -> None:
    """Loads every tensor; only the counters of batch normalisation may be missing (old files lack them).

    Raises:
        RuntimeError: keys or shapes differ.
    """
    own = module.state_dict()
    state = type(own)(tensors)
    for key, value in own.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, value)
    state._metadata = versions or own._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=True)


def _probe(module: nn.Module, shape: tuple[int, int, int], num_classes: int, name: str) -> Tensor:
    """Logits for one black image, with their graph."""
    try:
        logits: Tensor = module(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UnsupportedError(
            "unsupported_input_size",
            f"{name} does not take images of {shape[1]} x {shape[2]} ({str(error)[:160]}).",
            "Send preprocess with the size the model was trained with.",
        ) from error
    if tuple(logits.shape) != (1, num_classes):
        raise UnsupportedError("unsupported_architecture", f"{name} does not answer with {num_classes} logits.")
    return logits


def freeze_unused(module: nn.Module, logits: Tensor) -> None:
    """Freezes parameters that `logits` do not depend on, such as mask tokens: they cannot be trained by them.

    Args:
        module: the network.
        logits: what it answered, with their graph.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
