"""What is left of a scan's input without captions or without a vocabulary."""

import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from core.bench.methods import CLIPS, Judged, _in_concepts
from core.bench.modes import MODES, weaken
from core.config import Preprocess
from core.data.reference import ReferenceSet
from core.errors import UnsupportedError
from core.models.clip.adapter import ClipAdapter
from tests.support.planted import planted

CONCEPTS = 5


@pytest.fixture(scope="module")
def suspect() -> ClipAdapter:
    """Its features are the mean colour of each of five rows, its anchors the axes."""
    tower = nn.Sequential(nn.AdaptiveAvgPool2d((CONCEPTS, 1)), nn.Flatten(), nn.Linear(CONCEPTS, CONCEPTS, bias=False))
    nn.init.eye_(tower[2].weight)
    return ClipAdapter(tower, torch.eye(CONCEPTS), 20.0, Preprocess((0.0,), (1.0,), (10, 4)), (1, 10, 4))


@pytest.fixture(scope="module")
def reference() -> ReferenceSet:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(100) % CONCEPTS
    pixels = 0.2 * torch.rand((100, 1, 10, 4), generator=generator)
    for row, label in enumerate(labels.tolist()):
        pixels[row, 0, 2 * label : 2 * label + 2] += 0.7
    texts = normalize(torch.eye(CONCEPTS)[labels] + 0.05 * torch.rand((100, CONCEPTS), generator=generator), dim=1)
    return ReferenceSet(pixels, labels, True, ("a", "b", "c", "d", "e"), texts)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_targets_that_are_left_are_traced_back_to_concepts(
    mode: str, suspect: ClipAdapter, reference: ReferenceSet
) -> None:
    left = weaken(suspect, reference, mode, 0)
    assert len(left.concepts) == left.suspect.num_targets
    assert set(left.concepts.tolist()) == set(range(CONCEPTS))
    assert torch.equal(left.concepts[left.reference.labels], reference.labels)
    assert (left.reference.texts is not None) == left.reference.labelled == (mode == "captions")
    assert left.suspect.module is suspect.module
    assert suspect.num_targets == CONCEPTS
    again = weaken(suspect, reference, mode, 0)
    assert torch.equal(left.suspect.anchors, again.suspect.anchors)


def test_clusters_of_one_concept_are_one_target_in_the_row() -> None:
    judged = Judged(True, "backdoored", 3.0, 0.01, [2, 0, None], 10, {"ranked": [2, 1, 0, None]})
    row = _in_concepts(judged, [7, 7, 4])
    assert row.targets == [4, 7, None]
    assert row.detail["ranked"] == [4, 7, None]


def test_modes_are_detectors_of_the_suite_only() -> None:
    assert [name for name in CLIPS.detecting if name.startswith("bi-bau-")] == [f"bi-bau-{mode}" for mode in MODES]
    victim = planted(False)
    with pytest.raises(UnsupportedError):
        weaken(victim.model, victim.reference, "images", 0)
