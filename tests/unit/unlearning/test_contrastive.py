"""The contrastive part of a step, on images that come with texts."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from core.unlearning.guard import guard
from core.unlearning.step import contrastive

TEXTS = torch.eye(3)


def test_by_hand_on_two_pairs() -> None:
    """Logits s and 0: each of the four cross-entropies is log(1 + exp(-s))."""
    loss = contrastive(TEXTS[:2], TEXTS[:2], 3.0)
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-3.0)), rel=1e-5)


def test_images_that_share_a_text_do_not_push_each_other_away() -> None:
    """Both answers are as good; what is left is the entropy of choosing one of the two."""
    texts = TEXTS[[0, 0, 1]]
    shared = float(contrastive(texts, texts, 50.0))
    assert shared == pytest.approx(2 / 3 * math.log(2), abs=1e-4)
    features = texts.clone().requires_grad_()
    contrastive(features, texts, 50.0).backward()
    assert features.grad is not None
    assert features.grad.abs().max() < 1e-4


def test_a_swapped_pair_costs_more() -> None:
    assert contrastive(TEXTS[[1, 0]], TEXTS[:2], 5.0) > contrastive(TEXTS[:2], TEXTS[:2], 5.0) + 4


def test_the_guard_refuses_a_loss_of_retrieval_alone(planted: Any) -> None:
    """Features turned away from the texts keep every answer of this classifier, and lose the texts."""
    images = planted.reference.subset(torch.arange(40))
    texts = normalize(planted.model.features(images.pixels).detach(), dim=1)
    pairs = replace(images, texts=texts)
    kept = guard(planted.model, planted.model.clone(), (), pairs, budget=0.05)
    assert kept.accepted
    assert kept.retrieval is not None
    assert kept.retrieval.before == kept.retrieval.after > 0.5

    class Turned(type(planted.model)):  # type: ignore[misc]
        def features(self, pixels: torch.Tensor) -> torch.Tensor:
            return -super().features(pixels)

    turned = planted.model.clone()
    turned.__class__ = Turned
    lost = guard(planted.model, turned, (), pairs, budget=0.05)
    assert lost.utility.before == lost.utility.after
    assert not lost.accepted
    assert lost.loss > 0.05
