"""Tables against figures worked out by hand."""

from pathlib import Path

import pytest

from core.bench.cost import cells_of, cost_table, neural_cleanse_images
from core.bench.plots import plot_detect, plot_purify
from core.bench.runner import Suite
from core.bench.table import detect_table, purify_table, zoo_table
from core.errors import InvalidInputError
from tests.support.bench_rows import detect_row, purify_row


def _cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def _line(table: str, start: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith((f"| {start} |", f"- {start}"))]
    return _cells_of(line)


def test_means_over_cells_then_seeds() -> None:
    rows = [
        purify_row("none"),
        purify_row("none", "blended"),
        purify_row("ft", asr=0.42, acc=0.9),  # excess .40, loss 0
        purify_row("ft", seed=2, asr=0.22, acc=0.8),  # excess .20, loss .1
        purify_row("ft", "blended", asr=0.01, acc=0.86),  # below the clean model: excess 0, loss .04
    ]
    ft = _line(purify_table(rows), "ft")
    assert ft[1].startswith("4.5 [")  # ((0 + .1) / 2 + .04) / 2
    assert ft[2].startswith("16.5 [")  # ((.42 + .22) / 2 + .01) / 2
    assert ft[3].startswith("15.0 [")  # (.3 + 0) / 2
    assert ft[4] == "30.0"
    assert ft[6].startswith("30.0 [")  # RA .6 against a clean model's .9
    assert ft[7].startswith("10.0 [")  # retuned .6 against .5
    assert ft[8].startswith("0.0 [")  # perturbed .3 against .4
    assert ft[9:] == ["1,000", "2.0", "100", "3"]


def test_cells_by_themselves_and_the_clean_model() -> None:
    table = purify_table([purify_row("none"), purify_row("ft"), purify_row("ft", seed=2, acc=0.81)])
    first, second = [line for line in table.splitlines() if line.startswith("| fashion-mnist preact badnets |")]
    assert _cells_of(first)[1:] == ["91.0 / 2.0 / 90.0", "90.0 / 100.0 / 60.0", "83.0 / 30.0 / 60.0"]
    assert _cells_of(second)[1:] == ["50.0 / 40.0", "60.0 / 30.0", "60.0 / 30.0"]


def test_what_did_not_embed_is_not_counted_and_what_is_missing_is_said() -> None:
    rows = [
        purify_row("none"),
        purify_row("ft"),
        purify_row("none", "warp", asr_before=0.84, asr=0.84),
        purify_row("none", "sig", asr_before=0.85, asr=0.85),
    ]
    table = purify_table(rows)
    assert "- fashion-mnist preact warp s1: not counted, the backdoor did not embed (ASR 84.0)." in table
    assert "- fashion-mnist preact sig s1: no result of ft." in table
    assert _line(table, "none")[-1] == "2"


def test_if_nothing_embedded_there_are_no_figures() -> None:
    table = purify_table([purify_row("none", asr_before=0.2, asr=0.2)])
    assert table == "- fashion-mnist preact badnets s1: not counted, the backdoor did not embed (ASR 20.0).\n"


def test_detectors() -> None:
    rows = [detect_row("bi-bau", "clean", seed, score) for seed, score in enumerate((0.1, 0.5, 1.2, 0.3))]
    rows += [detect_row("bi-bau", "badnets", seed, score) for seed, score in enumerate((2.0, 0.4))]
    rows.append(detect_row("bi-bau", "badnets", 2, 3.0, named=False, target=5))
    line = _line(detect_table(rows), "bi-bau")
    # Of twelve pairs 2.0 wins four, 3.0 four and .4 two.
    assert line[1].startswith("0.833 [")
    assert line[2].startswith("2/3: 66.7 [9.4, 99.2]")
    assert line[3].startswith("1/4: 25.0 [0.6, 80.6]")
    assert line[4].startswith("1/3: 33.3 [")


def test_a_backdoor_that_did_not_embed_is_not_missed_but_not_there() -> None:
    weak = {"asr": 0.2, "targets": [], "true_targets": [3]}
    rows = [detect_row("bi-bau", "clean", 1, 0.1), detect_row("bi-bau", "badnets", 1, 2.0)]
    table = detect_table([*rows, detect_row("bi-bau", "badnets", 2, 0.1, detail=weak)])
    assert _line(table, "bi-bau")[2].startswith("1/1: 100.0")
    assert "- fashion-mnist preact badnets s2: not counted, the backdoor did not embed (ASR 20.0).\n" in table


def test_a_true_target_among_the_first_three_counts_even_where_nothing_is_suspicious() -> None:
    detail = {"asr": 0.9, "targets": [], "true_targets": [3]}
    rows = [
        detect_row("bi-bau", "patch", 1, 0.1, detail=detail | {"ranked": [7, 8, 3]}),
        detect_row("bi-bau", "patch", 2, 0.1, detail=detail | {"ranked": [7, 8, 9, 3]}),
        detect_row("bi-bau", "patch", 3, 0.1, detail=detail),
    ]
    line = _line(detect_table(rows), "bi-bau")
    assert line[4].startswith("0/3")
    assert line[5].startswith("1/3")


def test_retrieval_is_shown_where_it_was_measured() -> None:
    none = purify_row("none")
    none.detail.update({"retrieval": 0.9, "retrieval_clean": 0.92})  # type: ignore[attr-defined]
    tuned = purify_row("ft")
    assert "Recall" not in purify_table([purify_row("none"), tuned])
    tuned.detail.update({"retrieval": 0.8})  # type: ignore[attr-defined]
    table = purify_table([none, tuned])
    assert "| fashion-mnist preact badnets | 92.0 | 90.0 | 80.0 |" in table


def test_without_clean_models_there_is_no_area() -> None:
    line = _line(detect_table([detect_row("neural-cleanse", "badnets", 1, 2.0)]), "neural-cleanse")
    assert line[1] == "–"
    assert line[3] == "–"


def test_the_zoo_says_what_embedded() -> None:
    attacked = {"acc": 0.9, "asr": 0.5, "ra": 0.4, "attacks": [{}], "training_s": 12.3}
    clean = {"acc": 0.91, "attacks": [], "training_s": 10.0}
    table = zoo_table({"b": attacked, "a": clean})
    assert _line(table, "a")[1:] == ["91.0", "", "", "", "10"]
    assert _line(table, "b")[1:] == ["90.0", "50.0", "40.0", "**no**", "12"]


def test_the_cost_beside_neural_cleanse() -> None:
    assert neural_cleanse_images(10) == 320_000
    scan = {
        "kind": "scan", "model": "m", "classes": 10, "preset": "standard", "images": 16_000,
        "neural_cleanse": neural_cleanse_images(10), "wall_s": 9.0, "named": True,
    }  # fmt: skip
    whole = {
        "kind": "whole", "model": "n", "preset": "fast", "threads": 2, "wall_s": 20.0, "cpu_s": 35.0,
        "stages": {"inverting": 8.0, "unlearning": 11.5}, "verdict": "backdoored", "purification": "published",
    }  # fmt: skip
    profile = whole | {"kind": "profile", "profile": [{"function": "conv2d", "calls": 1000, "own_s": 5.0}]}
    table = cost_table([scan, whole, profile])
    assert _line(table, "m")[1:6] == ["10", "standard", "16,000", "320,000", "1/20"]
    assert _line(table, "n")[1:] == ["fast", "8.0", "11.5", "20.0", "35.0", "2", "backdoored", "published"]
    assert _line(table, "`conv2d`")[1:] == ["1,000", "5.0", "25%"]
    assert cost_table([scan]).count("\n") == 3


def test_the_cells_of_the_cost() -> None:
    assert [(cell.data, cell.quick) for cell in cells_of(Suite.SMOKE, None)] == [("fashion-mnist", True)]
    assert [cell.data for cell in cells_of(Suite.FULL, "cifar10")] == ["cifar10", "procedural-100"]
    with pytest.raises(InvalidInputError, match="of ten classes"):
        cells_of(Suite.FULL, "procedural-100")


def test_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    written = plot_purify([purify_row("none"), purify_row("ft")], tmp_path)
    written += plot_detect([detect_row("bi-bau", "clean", 1, 0.2), detect_row("bi-bau", "badnets", 1, 2.0)], tmp_path)
    assert [path.name for path in written] == ["tradeoff.svg", "reattack.svg", "scores.svg"]
    assert all(path.read_text().lstrip().startswith("<?xml") for path in written)
