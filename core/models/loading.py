"""From an intake folder to a model the engine can work on."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from core.config import Preprocess, ScanConfig
from core.data.reference import ReferenceSet, load_reference, load_report
from core.domain import ModelKind
from core.errors import UnsupportedError
from core.models.architectures import build
from core.models.architectures.blueprint import Blueprint
from core.models.classifier import Classifier
from core.models.clip.adapter import ClipAdapter
from core.models.clip.loading import Texts, load_clip
from core.models.intake import INSPECTION_FILE, WEIGHTS_FILE
from core.models.loading_parts import freeze_unused, load_strictly, probe
from core.models.package import Package
from core.models.preprocessing import accuracy, choose
from core.models.protocol import SuspectModel
from core.report.schema import ModelInfo, PreprocessInfo, ReferenceInfo


@dataclass(frozen=True, slots=True)
class LoadedSuspect:
    """A suspect ready for the engine, and all that is known about it.

    Attributes:
        intake_dir: what it was loaded from.
        model: on the CPU, in evaluation mode.
        package: the files it came in: what the exports need.
        inspection: inspection.json, with the architecture that was chosen.
        preprocess_source: who says mean and std.
        reference_report: reference.json; None without a reference set.
        reference_accuracy: on the labelled reference set; None without labels.
        texts: of a model of images and texts.
    """

    intake_dir: Path
    model: Classifier | ClipAdapter
    package: Package
    inspection: Mapping[str, Any]
    preprocess_source: str
    reference_report: Mapping[str, Any] | None
    reference_accuracy: float | None
    texts: Texts | None = None

    def export_state(self, model: SuspectModel) -> dict[str, Tensor]:
        """What the package's exports take, for a model unlearned from this one.

        Tensors that are not its own (a normalisation's in front of it, a text tower's) are read again as they came:
        nobody holds them while the engine works.
        """
        state = model.state_dict_for_export()
        with safe_open(str(self.intake_dir / WEIGHTS_FILE), framework="pt") as file:
            return {key: file.get_tensor(key) for key in set(file.keys()) - state.keys()} | state

    def as_published(self, model: SuspectModel) -> SuspectModel:
        """`model` with its weights rounded as the exports round them: what a reader of the files will run."""
        published = model.clone()
        load_strictly(published.module, self.package.rounded(model.state_dict_for_export()))
        return published

    def reference(self) -> ReferenceSet | None:
        """The images it came with, on the CPU; None without any.

        Labels are those of classes, or the targets that the images' own texts are nearest to, or else what the model
        itself says: on the device that it is on.
        """
        found = load_reference(self.intake_dir, self.model)
        if found is None or self.texts is None or self.texts.own is None:
            return None if found is None else self.named(found)
        labels = found.labels if self.texts.labels is None else self.texts.labels
        return self.named(replace(found, labels=labels, texts=self.texts.own))

    def named(self, reference: ReferenceSet) -> ReferenceSet:
        """`reference` with the model's own class names, if it has any."""
        labels = self.inspection["labels"] if self.texts is None else self.texts.names
        return replace(reference, class_names=tuple(labels)) if labels else reference

    def describe(self, sha256: str, filename: str) -> ModelInfo:
        """For the report."""
        preprocess = self.model.preprocess
        return ModelInfo(
            sha256=sha256,
            filename=filename,
            size_bytes=self.inspection["file_bytes"],
            container=self.inspection["container"],
            kind=ModelKind.CLASSIFIER if self.texts is None else ModelKind.CLIP,
            architecture=self.inspection["architecture"],
            architecture_source=self.inspection["architecture_source"],
            num_classes=self.model.num_targets,
            input_shape=self.model.input_shape,
            parameters=self.inspection["parameters"] if self.texts else _parameters(self.model),
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
            vocabulary=None if self.texts is None else self.texts.describe(),
            files=self.inspection["files"],
            not_scanned=self.inspection["not_scanned"],
        )

    def describe_reference(self, sha256: str | None) -> ReferenceInfo | None:
        """For the report; None without a reference set."""
        if self.reference_report is None:
            return None
        fields = set(ReferenceInfo.model_fields) - {"sha256"}
        return ReferenceInfo(sha256=sha256 or "", **{key: self.reference_report[key] for key in fields})


def _parameters(model: SuspectModel) -> int:
    return sum(parameter.numel() for parameter in model.module.parameters())


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
    beside = set(package.auxiliary)
    tensors = {key: value for key, value in load_file(str(intake_dir / WEIGHTS_FILE)).items() if key not in beside}
    if inspection["kind"] == ModelKind.CLIP.value:
        clip, texts, who = load_clip(intake_dir, inspection, tensors, config)
        return LoadedSuspect(intake_dir, clip, package, inspection, who, load_report(intake_dir), None, texts)
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
        intake_dir, model, package, inspection, source, load_report(intake_dir), score if labelled else None
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


def _probe(module: nn.Module, shape: tuple[int, int, int], num_classes: int, name: str) -> Tensor:
    """Logits for one black image, with their graph."""
    logits = probe(module, shape, name)
    if tuple(logits.shape) != (1, num_classes):
        raise UnsupportedError("unsupported_architecture", f"{name} does not answer with {num_classes} logits.")
    return logits
