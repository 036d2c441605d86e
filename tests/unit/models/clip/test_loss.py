"""The contrastive loss against figures worked out by hand."""

import math

import pytest
import torch

from core.models.clip.loss import info_nce


def test_rows_that_belong_together() -> None:
    axes = torch.eye(4)
    assert float(info_nce(axes, axes, 100.0)) == pytest.approx(0.0, abs=1e-6)
    assert float(info_nce(axes, axes, 0.0)) == pytest.approx(math.log(4))
    # One pair of logits a row: scale on the diagonal, none beside it.
    assert float(info_nce(torch.eye(2), torch.eye(2), 1.0)) == pytest.approx(math.log(1 + math.exp(-1)))


def test_both_directions_count_and_the_order_of_pairs_does_not() -> None:
    one = torch.nn.functional.normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    other = torch.nn.functional.normalize(torch.randn(6, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    assert torch.allclose(info_nce(one, other, 5.0), info_nce(other, one, 5.0))
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(info_nce(one, other, 5.0), info_nce(one[order], other[order], 5.0))
    assert info_nce(one, other[order], 5.0) != info_nce(one, other, 5.0)
