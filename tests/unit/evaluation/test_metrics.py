"""ACC, ASR and RA by hand."""

import pytest
import torch
from torch import Tensor

from core.evaluation.metrics import accuracy, predict, triggered_rates


def scorer(pixels: Tensor) -> Tensor:
    """Answers the class written in the first pixel, in tenths; 0.9 there means class 2."""
    first = pixels[:, 0, 0, 0]
    answers = torch.where(first > 0.85, torch.tensor(2), (first * 10).round().long())
    return torch.nn.functional.one_hot(answers, 3).float()


def _images(*classes: int) -> Tensor:
    return torch.tensor(classes).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2) / 10


def _half_works(pixels: Tensor) -> Tensor:
    """Stamps 0.9 on images of class 0 and leaves the others alone."""
    changed = pixels.clone()
    changed[pixels[:, 0, 0, 0] < 0.05] = 0.9
    return changed


def _to_two(labels: Tensor) -> Tensor:
    return torch.full_like(labels, 2)


LABELS = torch.tensor([0, 0, 1, 1, 1, 2, 2])
PIXELS = _images(0, 0, 1, 1, 0, 2, 1)  # the fifth and the seventh are misread


def test_accuracy() -> None:
    assert accuracy(scorer, PIXELS, LABELS) == pytest.approx(5 / 7)


def test_images_of_the_target_class_are_left_out() -> None:
    # Images of classes 0 and 1: five; the two of class 0 and the misread fifth are stamped and become 2.
    assert triggered_rates(scorer, PIXELS, LABELS, _half_works, _to_two) == pytest.approx((3 / 5, 2 / 5))


def test_source_dependent_target() -> None:
    wanted = lambda labels: (labels + 1) % 3  # noqa: E731
    # Unchanged answers 0 0 1 1 0 2 1 against wanted 1 1 2 2 2 0 0: never.
    assert triggered_rates(scorer, PIXELS, LABELS, lambda x: x, wanted) == pytest.approx((0, 5 / 7))


def test_batches_do_not_matter() -> None:
    assert torch.equal(predict(scorer, PIXELS, batch_size=2), predict(scorer, PIXELS))


def test_nothing_to_measure_is_an_error() -> None:
    with pytest.raises(ValueError, match="no images"):
        accuracy(scorer, PIXELS[:0], LABELS[:0])
    with pytest.raises(ValueError, match="outside the target class"):
        triggered_rates(scorer, PIXELS[5:], LABELS[5:], _half_works, _to_two)
