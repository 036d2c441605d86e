"""Rows and the file they are kept in."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from core.bench.conditions import Conditions, Effort, Reference
from core.bench.rows import DetectRow, PurifyRow, RowFile
from core.domain import Preset
from core.errors import InvalidInputError
from tests.support.bench_rows import detect_row, purify_row


def test_the_fields_of_a_purification_are_the_published_ones(tmp_path: Path) -> None:
    RowFile(tmp_path / "rows.jsonl", PurifyRow).append(purify_row())
    (line,) = (tmp_path / "rows.jsonl").read_text().splitlines()
    assert list(json.loads(line)) == [
        "data", "model", "attack", "method", "seed", "acc_before", "acc", "asr_before", "asr", "ra", "asr_clean",
        "ra_clean", "reattack", "passes", "wall_s", "peak_rss_bytes", "detail",
    ]  # fmt: skip


def test_rows_come_back_as_they_were_in_an_order_of_their_own(tmp_path: Path) -> None:
    rows = [purify_row("sau"), purify_row("none", seed=2), purify_row("ft"), purify_row("none")]
    file = RowFile(tmp_path / "rows.jsonl", PurifyRow)
    for row in rows:
        file.append(row)
    again = RowFile(tmp_path / "rows.jsonl", PurifyRow)
    assert list(again) == list(file)
    assert {row.key for row in again} == {row.key for row in rows}
    backwards = RowFile(tmp_path / "other.jsonl", PurifyRow)
    for row in reversed(rows):
        backwards.append(row)
    assert list(backwards) == list(again)
    assert again.get(rows[0].key) == rows[0]


def test_a_line_cut_off_is_dropped_and_the_file_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    file = RowFile(path, DetectRow)
    file.append(detect_row("bi-bau", "clean", 1, 0.5))
    whole = path.read_bytes()
    file.append(detect_row("bi-bau", "clean", 2, 0.6))
    path.write_bytes(path.read_bytes()[: len(whole) + 30])
    again = RowFile(path, DetectRow)
    assert [row.seed for row in again] == [1]
    again.append(detect_row("bi-bau", "clean", 2, 0.6))
    assert [row.seed for row in RowFile(path, DetectRow)] == [1, 2]


def test_nothing_is_measured_twice(tmp_path: Path) -> None:
    file = RowFile(tmp_path / "rows.jsonl", PurifyRow)
    file.append(purify_row())
    with pytest.raises(ValueError, match="measured twice"):
        file.append(purify_row(acc=0.1))


@pytest.mark.parametrize("line", ["{", '{"data": "x"}', '{"surplus": 1}'])
def test_lines_of_another_kind_are_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "rows.jsonl").write_text(line + "\n")
    with pytest.raises(InvalidInputError) as caught:
        RowFile(tmp_path / "rows.jsonl", PurifyRow)
    assert caught.value.code == "bench_rows_unreadable"


def test_rows_of_other_conditions_are_not_mixed(tmp_path: Path) -> None:
    conditions = Conditions(Reference.HUNDRED, Preset.FAST, Effort(), threads=1)
    conditions.keep(tmp_path / "conditions.json")
    conditions.keep(tmp_path / "conditions.json")
    for other in (
        replace(conditions, reference=Reference.FIVE_PERCENT),
        replace(conditions, preset=Preset.STANDARD),
        replace(conditions, effort=Effort(restarts=1)),
    ):
        with pytest.raises(InvalidInputError, match="bench_conditions_differ"):
            other.keep(tmp_path / "conditions.json")
