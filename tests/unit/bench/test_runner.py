"""Whole runs on a tiny model: training, methods, detectors, tables."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from core.bench.rows import DetectRow, PurifyRow, RowFile
from core.bench.runner import Finished, Run, Suite, attacked, beside, cells_of, clean, run_detect, run_purify, run_zoo
from core.bench.work import Subject
from core.errors import InvalidInputError
from tests.support.tiny_bench import CONDITIONS, place, subject

METHODS = ("none", "ft")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and trained models, shared by the tests."""
    return tmp_path_factory.mktemp("bench")


def _run(folder: Path, out: Path, seen: list[tuple[int, int, str]] | None = None) -> Run:
    seen = [] if seen is None else seen
    return Run(CONDITIONS, out, place(folder), 1, lambda *event: seen.append(event))


@pytest.fixture(scope="module")
def purified(folder: Path) -> tuple[Path, Finished, list[tuple[int, int, str]]]:
    """A run over one model with a backdoor, and one that was poisoned but hardly trained."""
    seen: list[tuple[int, int, str]] = []
    finished = run_purify([subject(), _feeble()], METHODS, _run(folder, folder / "out", seen))
    return folder / "out", finished, seen


def _feeble() -> Subject:
    strong = subject()
    suspect = replace(strong.clean, name="feeble", attack=strong.suspect.attack, epochs=1, lr=0.0)
    return replace(strong, attack="feeble", suspect=suspect)


def _rows(out: Path) -> dict[str, PurifyRow]:
    return {row.method: row for row in RowFile(out / "purify.jsonl", PurifyRow) if row.attack == "blended"}


def test_figures_of_a_purification(purified: tuple[Path, Finished, list[tuple[int, int, str]]]) -> None:
    out, finished, seen = purified
    assert finished.failures == []
    rows = _rows(out)
    assert list(rows) == ["ft", "none"]
    none, tuned = rows["none"], rows["ft"]
    assert (none.acc_before, none.asr_before) == (none.acc, none.asr)
    assert none.asr_before > 0.85
    assert none.asr_clean < 0.5
    assert none.passes == 0
    assert tuned.passes > 100
    assert (tuned.acc_before, tuned.asr_clean) == (none.acc_before, none.asr_clean)
    assert tuned.reattack["worst_clean"] == none.reattack["worst_clean"]
    assert tuned.reattack["worst"] == max(tuned.detail["triggers"][0]["curves"]["0.01"].values())
    assert all(row.peak_rss_bytes > 50e6 for row in rows.values())
    assert tuned.wall_s > 0
    assert "certificate" not in tuned.detail
    assert (seen[0][:2], seen[-1][:2]) == ((0, 4), (4, 4))


def test_where_nothing_embedded_no_other_method_is_run(
    purified: tuple[Path, Finished, list[tuple[int, int, str]]],
) -> None:
    out, _, _ = purified
    assert [row.method for row in RowFile(out / "purify.jsonl", PurifyRow) if row.attack == "feeble"] == ["none"]
    assert "feeble s1: not counted" in (out / "purify.md").read_text()


def test_after_a_kill_it_goes_on_to_the_same_table(
    folder: Path, purified: tuple[Path, Finished, list[tuple[int, int, str]]], tmp_path: Path
) -> None:
    out, _, _ = purified
    lines = (out / "purify.jsonl").read_text().splitlines(keepends=True)
    (cut,) = [at for at, line in enumerate(lines) if json.loads(line)["method"] == "ft"]
    kept = lines[:cut] + lines[cut + 1 :]
    (tmp_path / "purify.jsonl").write_text("".join(kept) + lines[cut][:40])
    run_purify([subject(), _feeble()], METHODS, _run(folder, tmp_path))
    before, after = _rows(out), _rows(tmp_path)
    assert (tmp_path / "purify.jsonl").read_text().startswith("".join(kept))
    assert (after["ft"].acc, after["ft"].asr, after["ft"].reattack) == (
        before["ft"].acc, before["ft"].asr, before["ft"].reattack,
    )  # fmt: skip
    tables = [_without_costs((where / "purify.md").read_text()) for where in (out, tmp_path)]
    assert tables[0] == tables[1]


def _without_costs(table: str) -> list[list[str]]:
    """The table without seconds and memory, which no two runs share."""
    return [line.split("|")[:10] for line in table.splitlines()]


def test_detection(folder: Path, tmp_path: Path) -> None:
    finished = run_detect([subject(attack=None)], ("bi-bau",), _run(folder, tmp_path))
    assert finished.failures == []
    (row,) = RowFile(tmp_path / "detect.jsonl", DetectRow)
    assert (row.attack, row.named, row.detail["true_targets"]) == ("clean", None, [])
    assert row.suspicious == (row.verdict == "backdoored")
    assert row.passes > 1000
    assert "| bi-bau |" in (tmp_path / "detect.md").read_text()


def test_what_is_trained_is_not_trained_again(
    folder: Path, purified: tuple[Path, Finished, list[tuple[int, int, str]]], tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "zoo").glob("*.safetensors")}
    seen: list[tuple[int, int, str]] = []
    finished = run_zoo([subject(), _feeble()], _run(folder, tmp_path, seen))
    assert (finished.failures, seen) == ([], [(3, 3, "")])
    assert {path: path.stat().st_mtime_ns for path in (folder / "zoo").glob("*.safetensors")} == before
    assert "| tiny-blended-s1 |" in (tmp_path / "zoo.md").read_text()


def test_suites() -> None:
    smoke = cells_of(Suite.SMOKE, None)
    assert len(smoke) == 3
    assert {cell.data for cell in cells_of(Suite.SMOKE, "cifar10")} == {"cifar10"}
    assert {cell.data for cell in cells_of(Suite.FULL, "cifar10")} == {"cifar10"}
    subjects = attacked(smoke, range(1, 4))
    assert len(subjects) == 9
    assert [item.seed for item in subjects[:3]] == [1, 2, 3]
    assert len({item.key for item in subjects}) == 9
    assert [item.name for item in clean(smoke, range(1, 3))] == [
        "fashion-mnist preact clean s1",
        "fashion-mnist preact clean s2",
    ]
    with pytest.raises(InvalidInputError, match="no data set"):
        cells_of(Suite.SMOKE, "imagenet")


def test_detectors_are_judged_on_about_as_many_clean_models_as_attacked_ones() -> None:
    smoke = beside(cells_of(Suite.SMOKE, None), range(1, 3))
    assert [item.seed for item in smoke] == [1, 2, 3, 4, 5, 6]
    assert len({item.key for item in smoke}) == 6
    full = cells_of(Suite.FULL, None)
    counts = Counter((item.data, item.model) for item in beside(full, range(1, 2)))
    assert counts["cifar10", "preact"] == 6  # of thirteen attacks
    assert counts["procedural", "vgg"] == 2
    assert counts["cifar10", "wrn"] == 1
    assert counts.total() >= 0.7 * len(full)
    assert {item.attack for item in beside(full, range(1, 2))} == {"clean"}
