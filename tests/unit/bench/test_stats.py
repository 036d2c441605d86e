"""Statistics against values worked out by hand or known from tables."""

import pytest

from core.bench.stats import Estimate, auroc, auroc_interval, clopper_pearson, mean_of_cells


def test_the_mean_counts_cells_alike_however_many_seeds_they_have() -> None:
    assert mean_of_cells([[0.0, 0.0, 0.0], [1.0]]).value == 0.5


def test_without_spread_the_interval_is_a_point() -> None:
    assert mean_of_cells([[0.25, 0.25], [0.25]]) == Estimate(0.25, 0.25, 0.25)


def test_two_cells_without_spread_over_seeds() -> None:
    """A quarter of the resamples draws the same cell twice, on either side: the interval spans both."""
    estimate = mean_of_cells([[0.0], [1.0]])
    assert (estimate.low, estimate.value, estimate.high) == (0.0, 0.5, 1.0)


def test_one_cell_is_resampled_over_its_seeds() -> None:
    estimate = mean_of_cells([[0.0, 0.1, 0.2, 0.3]])
    assert 0 <= estimate.low < estimate.value < estimate.high <= 0.3
    assert estimate.value == pytest.approx(0.15)


def test_the_bootstrap_is_deterministic() -> None:
    values = [[0.1, 0.5, 0.2], [0.9, 0.3], [0.4, 0.4, 0.8]]
    assert mean_of_cells(values) == mean_of_cells(values)
    assert auroc_interval([0.1, 0.4, 0.5], [0.3, 0.9]) == auroc_interval([0.1, 0.4, 0.5], [0.3, 0.9])


@pytest.mark.parametrize("cells", [[], [[0.1], []]])
def test_no_values_have_no_mean(cells: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="no values"):
        mean_of_cells(cells)


def test_auroc_counts_pairs_and_halves_ties() -> None:
    # Pairs (clean, backdoored): 1<2, 1<3, 2=2, 2<3: three and a half of four.
    assert auroc([1, 2], [2, 3]) == 3.5 / 4
    assert auroc([0, 0], [1, 1]) == 1.0
    assert auroc([1, 1], [0, 0]) == 0.0
    with pytest.raises(ValueError, match="clean and backdoored"):
        auroc([], [1.0])


def test_auroc_interval_holds_its_value() -> None:
    estimate = auroc_interval([0.1, 0.2, 0.5, 0.6], [0.4, 0.7, 0.8])
    assert estimate.low <= estimate.value <= estimate.high
    assert estimate.high == 1.0
    assert auroc_interval([0.0, 0.1], [0.5, 0.6]) == Estimate(1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 20, 0.0, 0.16843),  # 1 - 0.025^(1/20)
        (20, 20, 0.83157, 1.0),
        (5, 10, 0.18709, 0.81291),
        (1, 40, 0.00063, 0.13159),
    ],
)
def test_clopper_pearson(successes: int, trials: int, low: float, high: float) -> None:
    estimate = clopper_pearson(successes, trials)
    assert estimate.value == successes / trials
    assert (estimate.low, estimate.high) == (pytest.approx(low, abs=1e-5), pytest.approx(high, abs=1e-5))


def test_clopper_pearson_of_hundreds() -> None:
    estimate = clopper_pearson(480, 500)
    assert 0.93 < estimate.low < 0.96 < estimate.high < 0.98


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_no_rate(successes: int, trials: int) -> None:
    with pytest.raises(ValueError, match="of"):
        clopper_pearson(successes, trials)


def test_in_percent() -> None:
    assert Estimate(0.1234, 0.1, 0.25).percent() == "12.3 [10.0, 25.0]"
