"""What a stored report is worth as evidence. Anything unreadable is worth nothing: the gate fails closed."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from core.domain import PurificationStatus
from core.report.schema import Report

#: Of the way from chance to perfect accuracy, at least this much shows that the images fit the model.
_ABOVE_CHANCE = 0.25


def read_report(document: Mapping[str, Any]) -> Report | None:
    """The report, or None if it is not one this version understands."""
    try:
        return Report.model_validate(document)
    except ValidationError:
        return None


def reference_fits(report: Report) -> bool:
    """Whether the reference images are of the kind the model was trained for.

    Labelled images: the accuracy is well above chance. Unlabelled ones have only the model's own predictions, so they
    must at least spread over a quarter of the classes (or of the images, if there are fewer).
    """
    reference, utility, classes = report.reference_set, report.utility, report.model.num_classes
    if reference is None or utility is None or reference.images_used == 0 or classes < 2:
        return False
    if reference.labelled:
        chance = 1 / classes
        return utility.measure != "agreement_with_suspect" and utility.before >= chance + _ABOVE_CHANCE * (1 - chance)
    return reference.classes_present >= max(2.0, min(classes, reference.images_used) / 4)


def purification_passed(report: Report) -> bool:
    """Whether purified weights were published and passed their own re-scan."""
    purification = report.purification
    return (
        purification.status is PurificationStatus.PUBLISHED
        and purification.verification is not None
        and purification.verification.passed
    )
