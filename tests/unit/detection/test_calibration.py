import json
import math
from pathlib import Path

import pytest
import torch

from core.detection.calibration import FEWEST_MODELS, Calibration, deviations, group_of, threshold, value_at
from core.detection.statistics import STATISTICS
from core.detection.tails import incomplete_beta, proportion_interval, student_quantile, student_tail
from tests.support.planted import planted


def models(count: int, energy: float = 1.0, spread: float = 0.3, seed: int = 0) -> dict[str, dict[str, float | None]]:
    """Clean models with log-normal smooth energies."""
    draws = torch.randn(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return {f"m{seed}-{n}": {"smooth_energy": energy * math.exp(spread * draw)} for n, draw in enumerate(draws)}


@pytest.mark.parametrize(
    ("t", "freedom", "tail"),
    [(2.0930, 19, 0.025), (2.7764, 4, 0.025), (6.3138, 1, 0.05), (-2.0930, 19, 0.975), (0.0, 7, 0.5)],
)
def test_students_tail_is_the_tabled_one(t: float, freedom: float, tail: float) -> None:
    assert student_tail(t, freedom) == pytest.approx(tail, rel=1e-3)
    if 0 < tail < 0.5:
        assert student_quantile(tail, freedom) == pytest.approx(t, rel=1e-3)


def test_incomplete_beta_is_the_binomial_tail() -> None:
    tail = sum(math.comb(12, k) * 0.3**k * 0.7 ** (12 - k) for k in range(4, 13))
    assert incomplete_beta(0.3, 4, 9) == pytest.approx(tail)
    assert incomplete_beta(0.0, 4, 9) == 0.0
    assert incomplete_beta(1.0, 4, 9) == 1.0


def test_intervals_of_proportions_are_exact() -> None:
    assert proportion_interval(0, 20) == pytest.approx((0.0, 0.1684), abs=1e-4)
    assert proportion_interval(1, 20) == pytest.approx((0.0013, 0.2487), abs=1e-4)
    assert proportion_interval(20, 20)[1] == 1.0
    assert proportion_interval(0, 0) == (0.0, 1.0)


def test_the_budget_is_kept_on_models_never_seen() -> None:
    calibration = Calibration("c", "e", {"a/grey": models(20)})
    fresh = models(2000, seed=1)
    beyond = sum((score := calibration.score(values, "a/grey")).value >= score.threshold for values in fresh.values())
    assert beyond / 2000 < 0.08  # 5 % on average over calibrations of twenty


def test_smaller_groups_ask_for_more() -> None:
    assert threshold(5, 3) > threshold(20, 3) > threshold(20, 1)
    assert threshold(20, 3, 0.1) < threshold(20, 3)
    assert math.isinf(threshold(1, 3))
    assert math.isinf(threshold(20, 0))


def test_p_values_count_and_then_extrapolate() -> None:
    calibration = Calibration("c", "e", {"a/grey": models(20)})
    ordinary = calibration.score({"smooth_energy": 1.0}, "a/grey")
    assert ordinary.p_value > 0.3
    assert (ordinary.p_value * 21) == pytest.approx(round(ordinary.p_value * 21))
    extreme = calibration.score({"smooth_energy": 0.05}, "a/grey")
    assert extreme.p_value < 1 / 21
    assert extreme.p_value == pytest.approx(student_tail(extreme.value, 19))
    assert extreme.leading == "smooth_energy"


def test_a_model_is_not_compared_with_itself() -> None:
    odd = {"odd": {"smooth_energy": 0.1}}
    calibration = Calibration("c", "e", {"a/grey": models(20) | odd})
    with_itself = calibration.score(odd["odd"], "a/grey")
    without = calibration.score(odd["odd"], "a/grey", without="odd")
    assert without.value > with_itself.value
    assert without.models == 20
    assert with_itself.false_positives == 1
    assert with_itself.interval[0] > 0


def test_small_groups_are_pooled_with_their_architecture_and_then_with_all() -> None:
    groups = {"a/grey": models(3), "a/colour": models(FEWEST_MODELS, seed=1), "b/grey": models(4, seed=2)}
    calibration = Calibration("c", "e", groups)
    assert calibration.reference("a/colour")[0] == "a/colour"
    name, pooled = calibration.reference("a/grey")
    assert (name, len(pooled)) == ("a", 3 + FEWEST_MODELS)
    for unknown in ("b/grey", "c/grey"):
        name, pooled = calibration.reference(unknown)
        assert (name, len(pooled)) == ("all", 7 + FEWEST_MODELS)


def test_kinds_of_models_are_never_pooled() -> None:
    groups = {"a/grey": models(12), "clip:r/colour": models(3, seed=1), "clip:t/colour": models(4, seed=2)}
    calibration = Calibration("c", "e", groups)
    name, pooled = calibration.reference("clip:r/colour")
    assert (name, set(pooled)) == ("clip:all", set(groups["clip:r/colour"]) | set(groups["clip:t/colour"]))
    assert calibration.reference("b/grey")[1] == groups["a/grey"]
    assert calibration.reference("other:x/grey")[1] == {}


def test_values_without_evidence_are_all_alike() -> None:
    tile = STATISTICS.get("tile_energy")
    assert tile.suspicion(150.0) == tile.suspicion(1.5) < tile.suspicion(0.5) < tile.suspicion(0.0) < math.inf
    flips = STATISTICS.get("window_flip")
    assert flips.suspicion(0.0) == flips.suspicion(0.2) < flips.suspicion(0.9)


def test_where_evidence_begins_depends_on_the_kind() -> None:
    """Clean CLIPs need warps of fifty and more, so one of five says something about a CLIP, and nothing otherwise."""
    clean = [{"warp_energy": 60.0 + number} for number in range(10)]
    assert deviations({"warp_energy": 5.0}, clean)["warp_energy"] == 0.0
    assert deviations({"warp_energy": 5.0}, clean, "clip:")["warp_energy"] > 2.0
    groups = {"clip:a/colour": {f"m{number}": values for number, values in enumerate(clean)}, "b/grey": models(9)}
    score = Calibration("c", "e", groups).score({"warp_energy": 5.0}, "clip:a/colour")
    assert (score.leading, score.value > 2.0) == ("warp_energy", True)


def test_value_at_is_the_inverse_of_deviations() -> None:
    clean = list(models(12).values())
    level = deviations({"smooth_energy": 0.4}, clean)["smooth_energy"]
    assert value_at("smooth_energy", level, clean) == pytest.approx(0.4)
    assert value_at("warp_energy", level, clean) is None


def test_statistics_that_few_clean_models_have_are_left_out() -> None:
    clean = list(models(12).values())
    for entry in clean[:4]:
        entry["blend_energy"] = 1.0
    assert "blend_energy" not in deviations({"smooth_energy": 0.4, "blend_energy": 0.1}, clean)


def test_groups_are_named_by_network_and_images() -> None:
    assert group_of(planted(False).model) == "tinynetwork/grey"


def test_files_are_read_back(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"identifier": "c", "engine": "e", "groups": {"a/grey": models(9)}}))
    assert Calibration.load(path) == Calibration("c", "e", {"a/grey": models(9)})
