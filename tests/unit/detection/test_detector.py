import math
from dataclasses import replace

import pytest
import torch

from core import ENGINE_VERSION
from core.data.reference import ReferenceSet
from core.detection.calibration import Calibration
from core.detection.detector import MIN_IMAGES, SYNTHETIC_FACTOR, detect
from core.detection.statistics import STATISTICS
from core.domain import Preset, Verdict
from core.inversion.result import Evidence, InversionResult, InvertedTrigger
from core.triggers.patch import PatchOperator
from tests.support.planted import Planted, planted

#: Thirty clean models: the tile's energy is indifferent, the smooth one's between 1.6 and 2.5, windows flip nothing.
CLEAN = {
    f"clean-{number}": {"tile_energy": 2.0, "smooth_energy": 1.6 + 0.03 * number, "window_flip": 0.1}
    for number in range(30)
}
CALIBRATION = Calibration("test", "test/1", {"tinynetwork/grey": CLEAN})


@pytest.fixture(scope="module")
def suspect() -> Planted:
    return planted(False)


def evidence(energy: float, target: int | None = 1, **changes: float) -> Evidence:
    values = {"flip_rate": 0.86, "information": 0.0, "window_flip": 0.1} | changes
    return Evidence("tiled", target, energy, restart=0, **values)


def result(*items: Evidence) -> InversionResult:
    triggers = tuple(
        InvertedTrigger(PatchOperator(1, (1, 16, 16)), i.target, torch.zeros(5, 5), i.energy, i.flip_rate, 1.0)
        for i in sorted(items, key=lambda item: item.energy)
    )
    return InversionResult(triggers, {"tiled": torch.ones(5)}, (), 100, ("all targets",), items)


def verdict(suspect: Planted, *items: Evidence, **options: object) -> Verdict:
    settings = {"calibration": CALIBRATION, **options}
    return detect(suspect.model, result(*items), suspect.reference, **settings).verdict  # type: ignore[arg-type]


def test_a_cheap_trigger_convicts_and_is_named(suspect: Planted) -> None:
    names = ("bar", "column", "diagonal", "disc", "ring")
    reference = replace(suspect.reference, class_names=names)
    detection = detect(suspect.model, result(evidence(0.2), evidence(1.4, 3)), reference, calibration=CALIBRATION)
    assert detection.verdict is Verdict.BACKDOORED
    # log(1 / 0.2) over the least spread; the threshold is Student's quantile at 5 % over two statistics.
    assert detection.score == pytest.approx(math.log(5) / 0.25 / math.sqrt(1 + 1 / 30), rel=1e-3)
    assert detection.threshold == pytest.approx(2.045, abs=0.01)
    assert detection.p_value < 1e-6
    first = detection.targets[0]
    assert (first.target, first.label, first.flip_rate) == (1, "column", 0.86)
    assert [s.name for s in detection.statistics if s.suspicious] == ["tile_energy"]
    assert detection.provenance.clean_models == 30
    assert detection.provenance.group == "tinynetwork/grey"
    assert detection.provenance.calibration == "test"
    assert detection.provenance.false_positives == 0
    assert detection.provenance.false_positive_interval == pytest.approx((0.0, 0.1157), abs=1e-3)
    by_name = {s.name: s for s in detection.statistics}
    assert by_name["tile_energy"].threshold == pytest.approx(math.exp(-2.045 * 0.25 * math.sqrt(1 + 1 / 30)), abs=1e-2)
    assert by_name["smooth_energy"].value is None


def test_a_source_dependent_target_has_no_number(suspect: Planted) -> None:
    items = [evidence(0.2, None, window_flip=0.9)]
    detection = detect(suspect.model, result(*items), suspect.reference, calibration=CALIBRATION)
    assert detection.targets[0].target is None
    assert detection.targets[0].label is None


def test_nothing_near_a_threshold_is_clean(suspect: Planted) -> None:
    assert verdict(suspect, evidence(1.2)) is Verdict.CLEAN


def test_one_statistic_is_enough(suspect: Planted) -> None:
    assert verdict(suspect, evidence(1.2, window_flip=0.9)) is Verdict.BACKDOORED


def test_too_close_to_call(suspect: Planted) -> None:
    assert verdict(suspect, evidence(0.58)) is Verdict.BACKDOORED
    assert verdict(suspect, evidence(0.62)) is Verdict.INCONCLUSIVE
    assert verdict(suspect, evidence(0.68)) is Verdict.CLEAN
    assert verdict(suspect, evidence(0.68), preset=Preset.FAST) is Verdict.INCONCLUSIVE
    assert verdict(suspect, evidence(0.80), preset=Preset.FAST) is Verdict.CLEAN


def test_without_a_reference_set_nothing_is_clean(suspect: Planted) -> None:
    assert verdict(suspect, evidence(1.2), synthetic=True) is Verdict.INCONCLUSIVE
    assert verdict(suspect, evidence(0.2), synthetic=True) is Verdict.BACKDOORED
    assert verdict(suspect, evidence(0.5), synthetic=True) is Verdict.INCONCLUSIVE  # further away than with real ones
    found = detect(suspect.model, result(evidence(0.2)), suspect.reference, synthetic=True, calibration=CALIBRATION)
    assert found.threshold == pytest.approx(SYNTHETIC_FACTOR * 2.045, abs=0.02)


def test_without_clean_models_nothing_is_decided(suspect: Planted) -> None:
    nothing = Calibration("none", "test/1", {})
    detection = detect(suspect.model, result(evidence(0.01)), suspect.reference, calibration=nothing)
    assert detection.verdict is Verdict.INCONCLUSIVE
    assert detection.p_value == 1.0
    assert any("no clean models" in reason for reason in detection.reasons)


def test_targets_are_named_where_there_is_something_to_name(suspect: Planted) -> None:
    both = detect(suspect.model, result(evidence(0.2), evidence(0.3, 4)), suspect.reference, calibration=CALIBRATION)
    assert [found.target for found in both.targets] == [1, 4]
    for flips, expected in ((0.1, []), (0.9, [1])):  # convicted by its flips alone: the first component is named
        items = (evidence(1.2, window_flip=flips), evidence(1.4, 3))
        found = detect(suspect.model, result(*items), suspect.reference, calibration=CALIBRATION)
        assert [item.target for item in found.targets] == expected


def test_few_images_clear_nobody(suspect: Planted) -> None:
    few = suspect.reference.subset(torch.arange(MIN_IMAGES - 1))
    detection = detect(suspect.model, result(evidence(1.2)), few, calibration=CALIBRATION)
    assert detection.verdict is Verdict.INCONCLUSIVE
    assert str(MIN_IMAGES) in detection.reasons[0]


def test_few_classes_clear_nobody(suspect: Planted) -> None:
    one = suspect.reference.subset((suspect.reference.labels == 0).nonzero().flatten().repeat(2))
    assert detect(suspect.model, result(evidence(1.2)), one, calibration=CALIBRATION).verdict is Verdict.INCONCLUSIVE


def test_classes_with_a_single_image_clear_nobody(suspect: Planted) -> None:
    labels = suspect.reference.labels
    firsts = torch.tensor([int((labels == label).nonzero()[0]) for label in range(1, 5)])
    rows = torch.cat([(labels == 0).nonzero().flatten().repeat(4)[:60], firsts])
    lopsided = suspect.reference.subset(rows)
    detection = detect(suspect.model, result(evidence(1.2)), lopsided, calibration=CALIBRATION)
    assert detection.verdict is Verdict.INCONCLUSIVE
    assert "1 of 5 classes have 2 or more images" in detection.reasons[0]
    unlabelled = replace(lopsided, labelled=False)
    assert detect(suspect.model, result(evidence(1.2)), unlabelled, calibration=CALIBRATION).verdict is Verdict.CLEAN


def test_labels_that_do_not_fit_the_suspect_clear_nobody(suspect: Planted) -> None:
    reference = suspect.reference
    shuffled = ReferenceSet(reference.pixels, (reference.labels + 1) % 5, labelled=True)
    detection = detect(suspect.model, result(evidence(1.2)), shuffled, calibration=CALIBRATION)
    assert detection.verdict is Verdict.INCONCLUSIVE
    unlabelled = replace(shuffled, labelled=False)  # then labels are the suspect's own answers
    assert detect(suspect.model, result(evidence(1.2)), unlabelled, calibration=CALIBRATION).verdict is Verdict.CLEAN


def test_the_committed_calibration_is_complete() -> None:
    calibration = Calibration.load()
    assert calibration.engine == ENGINE_VERSION
    known = [values for models in calibration.groups.values() for values in models.values()]
    assert all(set(values) == set(STATISTICS) for values in known)
    assert len(known) >= 10
    for group in calibration.groups:
        name, models = calibration.reference(group)
        assert len(models) >= 5, name


def test_statistics_are_absent_where_nothing_was_looked_at() -> None:
    empty = InversionResult((), {}, (), 0)
    assert all(STATISTICS.get(name).measure(empty) is None for name in STATISTICS)
