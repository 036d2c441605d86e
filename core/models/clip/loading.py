"""From an intake folder to an image tower and the directions of all texts: the text tower runs once and is let go."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from core.config import Preprocess, ScanConfig
from core.data.reference import load_reference, load_report
from core.models.clip.adapter import ClipAdapter
from core.models.clip.blueprint import ClipBlueprint
from core.models.clip.choosing import choose
from core.models.clip.texts import TokenisedTexts, anchor_directions, cluster, directions, nearest_names
from core.models.clip.vocabulary import VocabularySource
from core.models.loading_parts import freeze_unused, load_strictly, probe
from core.report.schema import VocabularyInfo

_BATCH = 64
_MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a scan.

    Attributes:
        names: of the targets, by index.
        source: where they come from.
        templates: prompts around each name; empty where names come from clustering.
        own: (N, D) direction of each reference image's own text, rows of length one; None without captions.
        labels: (N,) target that an image's own text is nearest to; None without captions.
    """

    names: tuple[str, ...]
    source: VocabularySource
    templates: tuple[str, ...]
    own: Tensor | None
    labels: Tensor | None

    @property
    def coverage(self) -> list[str]:
        """What a verdict over these targets does not cover."""
        gaps = {
            VocabularySource.CAPTION_CLUSTERS: "The targets are clusters of captions, each called by its nearest one.",
            VocabularySource.IMAGE_CLUSTERS: "The targets are groups of reference images: they have no names.",
        }
        found = [gaps[self.source]] if self.source in gaps else []
        found.append("A backdoor to a text far from all targets can be missed, or is named by the nearest target.")
        if self.own is None:
            found.append("The images came without captions: what tells texts of one target apart was not looked at.")
        return found

    def describe(self) -> VocabularyInfo:
        """For the report."""
        return VocabularyInfo(
            source=self.source.value,
            size=len(self.names),
            names=list(self.names[:_MAX_LISTED]),
            templates=list(self.templates),
        )


def load_clip(
    intake_dir: Path, inspection: Mapping[str, Any], tensors: Mapping[str, Tensor], config: ScanConfig
) -> tuple[ClipAdapter, Texts, str]:
    """Builds both towers, loads the validated tensors strictly, embeds all texts and keeps the image tower.

    Args:
        intake_dir: what core.models.intake wrote.
        inspection: its inspection.json.
        tensors: the whole network's, by its own keys.
        config: the one intake had; its seed is that of the clustering.

    Returns:
        The model, its texts, and who says mean and deviation.

    Raises:
        UnsupportedError: `unsupported_input_size`, `unsupported_architecture` (see choosing.choose).
    """
    candidates = [ClipBlueprint.from_json(value) for value in (inspection["blueprint"], *inspection["choices"])]
    declared = inspection["declared"]
    said = (tuple(declared["mean"]), tuple(declared["std"])) if declared["mean"] else None
    tokens = TokenisedTexts.load(intake_dir)
    images = None if len(candidates) == 1 and said else load_reference(intake_dir)
    blueprint, normalisation, who = choose(candidates, said, tensors, tokens, images)
    network = blueprint.build().eval()
    load_strictly(network, tensors)
    height, width = inspection["input_size"]
    shape = (inspection["in_channels"], int(height), int(width))
    preprocess = Preprocess(*normalisation, shape[1:])
    tower = blueprint.image_tower(network)
    freeze_unused(tower, probe(tower, shape, blueprint.name))

    vocabulary = inspection["vocabulary"]
    source = VocabularySource(vocabulary["source"])

    def embed(rows: Tensor) -> Tensor:
        return blueprint.embed(network, rows)

    own = None if tokens.captions is None else directions(tokens.captions, embed)
    names = tuple(vocabulary["names"])
    if tokens.vocabulary is not None:
        anchors = anchor_directions(tokens.vocabulary, embed)
    elif own is not None:
        anchors = cluster(own, config.seed)
        names = nearest_names(anchors, own, tuple((load_report(intake_dir) or {})["captions"]))
    else:
        anchors = cluster(_image_directions(tower, preprocess, intake_dir), config.seed)
        names = tuple(f"group {number}" for number in range(len(anchors)))
    labels = None if own is None else (own @ anchors.T).argmax(1)
    model = ClipAdapter(tower, anchors, blueprint.scale(network), preprocess, shape)
    texts = Texts(names, source, tuple(vocabulary["templates"]), own, labels)
    return model, texts, who or declared["source"]


@torch.no_grad()
def _image_directions(tower: torch.nn.Module, preprocess: Preprocess, intake_dir: Path) -> Tensor:
    """(N, D) of the reference images, rows of length one."""
    reference = load_reference(intake_dir)
    assert reference is not None  # without names and without images there is no vocabulary
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in (preprocess.mean, preprocess.std))
    parts = torch.split(reference.pixels, _BATCH)
    return torch.cat([normalize(tower((part - mean) / std).float(), dim=1) for part in parts])
