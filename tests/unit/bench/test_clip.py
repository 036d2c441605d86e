"""The suite of models of images and texts, over a tiny one of its kind."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core.attacks.clip.suite import CLIP_CELLS
from core.attacks.poisoning import Attack
from core.attacks.training import Recipe
from core.attacks.triggers import Trigger
from core.baselines.clip.contrast import Schedule
from core.baselines.clip.decree import Decree
from core.baselines.clip.fine_tuning import PairFineTuning
from core.baselines.protocol import DETECTORS, PURIFIERS
from core.bench.cost import cells_of as cost_cells_of
from core.bench.methods import CLASSIFIERS, CLIPS
from core.bench.rows import DetectRow, PurifyRow
from core.bench.runner import Suite, beside, cells_of
from core.bench.table import detect_table, purify_table
from core.bench.work import Subject, detect_one, purify_one
from core.errors import InvalidInputError
from tests.support.tiny_bench import CONDITIONS, place

_CLEAN = Recipe(
    "tiny-clip-clean-s101", "fashion-mnist", "clip-resnet", 101, epochs=3, batch_size=64, lr=2e-3, optimizer="adamw"
)
_ATTACK = Attack((Trigger("blended", 5, alpha=0.4, grain=4),), (3,), 0.2)
SUBJECT = Subject(
    "fashion-mnist", "tiny", "blended", 101, replace(_CLEAN, name="tiny-clip-blended-s101", attack=_ATTACK), _CLEAN
)


def test_a_row_of_a_purification_has_the_retrieval_of_all_three_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DETECTORS._items, "decree", Decree(steps=20))
    monkeypatch.setitem(PURIFIERS._items, "clip-ft", PairFineTuning(Schedule(1e-3, 3)))
    zoo = replace(place(tmp_path), clip=True).open()
    first = purify_one(zoo, SUBJECT, "none", CONDITIONS, None)
    assert isinstance(first, PurifyRow)
    assert first.asr_before > 0.85
    assert first.asr_clean < 0.6
    for recipe, recall in ((SUBJECT.suspect, "retrieval"), (SUBJECT.clean, "retrieval_clean")):
        # Each model meets the texts of its own tower: the record has it on all test pairs, the row on some of them.
        assert first.detail[recall] == pytest.approx(zoo.record(recipe)["retrieval"], abs=0.05)
    tuned = purify_one(zoo, SUBJECT, "clip-ft", CONDITIONS, first)
    assert isinstance(tuned, PurifyRow)
    assert tuned.passes >= 100
    assert tuned.detail["retrieval"] != first.detail["retrieval"]
    table = purify_table([first, tuned])
    assert "Recall at rank one" in table
    assert "clip-ft" in table

    found = detect_one(zoo, SUBJECT, "decree", CONDITIONS)
    assert isinstance(found, DetectRow)
    assert found.score == pytest.approx(-found.detail["pl1"])
    assert found.detail["true_targets"] == [3]
    assert found.detail["asr"] == zoo.record(SUBJECT.suspect)["asr"]
    assert "decree" in detect_table([found])


def test_the_suite_has_cells_and_methods_of_its_own() -> None:
    assert cells_of(Suite.CLIP, None) == CLIP_CELLS
    assert {cell.data for cell in cells_of(Suite.CLIP, "scenes")} == {"scenes"}
    assert Suite.CLIP.methods is CLIPS
    assert Suite.FULL.methods is CLASSIFIERS
    assert Suite.CLIP.effort.steps[0] == 4
    assert Suite.CLIP.effort.steps[-1] == 100
    with pytest.raises(InvalidInputError):
        cells_of(Suite.CLIP, "procedural")
    with pytest.raises(InvalidInputError, match="classifiers"):
        cost_cells_of(Suite.CLIP, None)


def test_clean_models_beside_are_of_the_same_towers() -> None:
    found = beside(CLIP_CELLS, range(1, 4))
    assert Counter((subject.data, subject.model) for subject in found) == {
        ("scenes", "clip-resnet"): 18,
        ("fashion-mnist", "clip-resnet"): 6,
        ("scenes", "clip-vit"): 6,
    }
    assert all(subject.suspect.attack is None for subject in found)
    assert all(subject.suspect.architecture == subject.model for subject in found)
