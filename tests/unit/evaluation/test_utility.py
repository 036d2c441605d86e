"""Zero-shot accuracy and retrieval of a model whose features are the first pixels."""

import pytest
import torch
from torch import Tensor

from core.data.reference import ReferenceSet
from core.evaluation.utility import retrieval, utility


class Pointing:
    """The image is the direction it points in; two anchors. Implements the parts of SuspectModel that are needed."""

    scale = 10.0

    def features(self, pixels: Tensor) -> Tensor:
        return torch.nn.functional.normalize(pixels.flatten(1), dim=1)

    def target_log_posterior(self, pixels: Tensor) -> Tensor:
        return (self.features(pixels) @ torch.eye(2)).log_softmax(1)


#: Four images: two of concept 0, one that looks like concept 1, one of concept 1.
PIXELS = torch.tensor([[1.0, 0.0], [0.9, 0.2], [0.1, 1.0], [0.0, 1.0]]).view(4, 1, 1, 2)
LABELS = torch.tensor([0, 0, 0, 1])
TEXTS = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.3], [0.8, 0.4], [0.1, 1.0]]), dim=1)


def test_labels_of_others_make_it_accuracy_and_own_answers_agreement() -> None:
    model = Pointing()
    measured = utility(model, ReferenceSet(PIXELS, LABELS, labelled=True))  # type: ignore[arg-type]
    assert (measured.measure, measured.images, measured.before) == ("zero_shot_accuracy", 4, 0.75)
    measured = utility(model, ReferenceSet(PIXELS, LABELS, labelled=False))  # type: ignore[arg-type]
    assert measured.measure == "agreement_with_suspect"


def test_any_text_of_the_concept_is_a_hit() -> None:
    """The second image is nearest to the first one's caption, which says the same; the third to another concept's."""
    measured = retrieval(Pointing(), ReferenceSet(PIXELS, LABELS, True, texts=TEXTS))  # type: ignore[arg-type]
    assert measured is not None
    assert measured.measure == "retrieval_recall"
    assert measured.before == pytest.approx(0.75)


def test_without_texts_nothing_is_retrieved() -> None:
    assert retrieval(Pointing(), ReferenceSet(PIXELS, LABELS, True)) is None  # type: ignore[arg-type]
