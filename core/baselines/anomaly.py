"""Outliers among classes by the median absolute deviation, as Neural Cleanse defines them."""

import torch
from torch import Tensor

#: Makes the deviation that of a normal distribution.
_CONSISTENCY = 1.4826


def anomaly_indices(values: Tensor) -> Tensor:
    """(K,) -> (K,) how many deviations each value lies below the median; negative above it. Free of scale and shift.

    The median is the lower one of an even number. All indices are 0 if more than half of the values agree.
    """
    median = values.median()
    deviation = _CONSISTENCY * (values - median).abs().median()
    if deviation <= 0:
        return torch.zeros_like(values)
    return (median - values) / deviation
