"""ACC, ASR and RA as in the literature, all of them fractions in [0, 1]."""

from collections.abc import Callable

import torch
from torch import Tensor

#: (B, C, H, W) in [0, 1] -> (B, K) scores whose largest entry is the answer.
Scorer = Callable[[Tensor], Tensor]
#: (B, C, H, W) in [0, 1] -> the same with a trigger.
PixelMap = Callable[[Tensor], Tensor]
#: (N,) true labels -> (N,) the attacker's labels.
LabelMap = Callable[[Tensor], Tensor]


@torch.no_grad()
def predict(scorer: Scorer, pixels: Tensor, batch_size: int = 256) -> Tensor:
    """(N, C, H, W) in [0, 1] -> (N,) predicted classes."""
    answers = [scorer(batch).argmax(1) for batch in torch.split(pixels, batch_size)]
    return torch.cat(answers) if answers else torch.empty(0, dtype=torch.long)


def accuracy(scorer: Scorer, pixels: Tensor, labels: Tensor) -> float:
    """Share of (N,) `labels` predicted right: ACC.

    Raises:
        ValueError: there are no images.
    """
    if not len(labels):
        raise ValueError("accuracy of no images")
    return float((predict(scorer, pixels) == labels).float().mean())


def triggered_rates(
    scorer: Scorer, pixels: Tensor, labels: Tensor, trigger: PixelMap, target_of: LabelMap
) -> tuple[float, float]:
    """(ASR, RA): the shares of triggered images that get the attacker's label, and that still get their own.

    Images that are of the attacker's class already are left out.

    Raises:
        ValueError: every image is of the target class.
    """
    wanted = target_of(labels)
    rows = (wanted != labels).nonzero().flatten()
    if not len(rows):
        raise ValueError("attack success rate without an image outside the target class")
    with torch.no_grad():
        answers = predict(scorer, trigger(pixels[rows]))
    return float((answers == wanted[rows]).float().mean()), float((answers == labels[rows]).float().mean())
