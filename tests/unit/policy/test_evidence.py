"""What a report is worth as evidence."""

from datetime import UTC, datetime

import pytest

from core.config import ScanConfig
from core.domain import ArtifactRole, PurificationStatus
from core.jobs.views import ClaimedJob
from core.policy.evidence import purification_passed, read_report, reference_fits
from core.report.schema import ArtifactInfo
from tests.support.registry import make_report

CLAIM = ClaimedJob("scan_1", 1, "org", "a" * 64, "m.pth", "b" * 64, ScanConfig().to_json(), datetime.now(UTC))
FILE = ArtifactInfo(
    role=ArtifactRole.PURIFIED_ORIGINAL, sha256="c" * 64, size_bytes=1, filename="p.pth", media_type="x/y"
)


@pytest.mark.parametrize(
    ("classes", "accuracy", "fits"),
    [
        (10, 0.95, True),
        (10, 0.33, True),
        (10, 0.32, False),
        (10, 0.10, False),
        (2, 0.95, True),
        (2, 0.60, False),
        (1000, 0.70, True),
        (1000, 0.01, False),
    ],
)
def test_labelled_reference_must_be_well_above_chance(classes: int, accuracy: float, fits: bool) -> None:
    report = make_report(CLAIM, accuracy=accuracy)
    report.model.num_classes = classes
    assert reference_fits(report) is fits


@pytest.mark.parametrize(
    ("classes", "images", "present", "fits"),
    [(10, 100, 10, True), (10, 100, 3, True), (10, 100, 2, False), (2, 100, 1, False), (1000, 40, 10, True)],
)
def test_unlabelled_reference_must_spread_over_classes(classes: int, images: int, present: int, fits: bool) -> None:
    report = make_report(CLAIM, labelled=False, accuracy=1.0, classes_present=present)
    report.model.num_classes = classes
    assert report.reference_set is not None
    report.reference_set.images_used = images
    assert reference_fits(report) is fits


def test_no_reference_or_no_usable_image_fits_nothing() -> None:
    report = make_report(CLAIM)
    assert report.reference_set is not None
    report.reference_set.images_used = 0
    assert not reference_fits(report)
    report.reference_set = None
    assert not reference_fits(report)


def test_labels_without_an_accuracy_are_no_proof() -> None:
    report = make_report(CLAIM)
    assert report.utility is not None
    report.utility.measure = "agreement_with_suspect"
    assert not reference_fits(report)
    report.utility = None
    assert not reference_fits(report)


def test_purification_must_be_published_and_pass() -> None:
    report = make_report(CLAIM, artifacts=[FILE])
    assert purification_passed(report)
    report.purification.status = PurificationStatus.WITHHELD
    assert not purification_passed(report)
    assert not purification_passed(make_report(CLAIM, artifacts=[FILE], passed=False))
    assert not purification_passed(make_report(CLAIM))


def test_unreadable_report_is_none() -> None:
    document = make_report(CLAIM).model_dump(mode="json")
    assert read_report(document) is not None
    assert read_report({**document, "schema_version": "9.0"}) is None
    assert read_report({}) is None
