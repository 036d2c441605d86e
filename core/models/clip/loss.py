"""The loss that models of images and texts are trained with."""

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(one: Tensor, other: Tensor, scale: float | Tensor) -> Tensor:
    """The symmetric contrastive loss, in nats (Radford et al. 2021, arXiv 2103.00020, figure 3).

    Args:
        one: (B, D), rows of length one.
        other: the same; row i belongs to row i of `one`, and to no other.
        scale: what cosines are multiplied by.
    """
    logits = scale * one @ other.T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
