"""How far unlearning goes and by what steps: what models of texts want otherwise than classifiers.

Both follow from experiments (docs/research/unlearning-completeness.md, docs/research/clip.md), not from theory.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from core.config import UnlearningConfig
from core.models.protocol import SuspectModel

_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4
#: For dense triggers the gradient is always at its bound, so the steps are this much shorter, and there are fewer.
_DENSE_SLOWER, _DENSE_FEWER = 0.75, 0.25
#: Every round of a classifier ends this share of the way back to the suspect, the larger one for dense triggers.
#: Unlearning by plain descent overshoots: weights between the ends resist as well or better, and are more accurate.
_BACK, _DENSE_BACK = 0.2, 0.4
#: For models of texts, as multiples of what is configured: adaptive steps are as long for every weight.
_ADAPTIVE_RATE, _ADAPTIVE_STEPS, _ADAPTIVE_FEATURE = 0.1, 2, 4.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """What one round of unlearning does.

    Attributes:
        config: the configuration as this kind of model wants it.
        adaptive: AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) instead of descent with momentum.
        lr: at the start of the round.
        steps: of the round.
        back: share of the way back to the suspect at its end.
    """

    config: UnlearningConfig
    adaptive: bool
    lr: float
    steps: int
    back: float

    def optimizer(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        """What moves `parameters`."""
        if self.adaptive:
            return torch.optim.AdamW(parameters, lr=self.lr, weight_decay=0.0)
        return torch.optim.SGD(parameters, lr=self.lr, momentum=_MOMENTUM, weight_decay=_WEIGHT_DECAY)


def recipe_for(model: SuspectModel, config: UnlearningConfig, dense_share: float) -> Recipe:
    """The recipe for a round against triggers of which `dense_share`, in [0, 1], are dense.

    Models of texts were trained by adaptive steps on embeddings: plain descent costs them seven points of accuracy
    where adaptive steps cost one. Against local triggers those also reach further by themselves: the path goes all the
    way back to the suspect, no re-attack is simulated, and of the suspect's view only the embedding is kept, not the
    stages before it. A dense trigger, which is only approximated, still needs all of that.
    """
    slower, fewer = 1 - _DENSE_SLOWER * dense_share, 1 - _DENSE_FEWER * dense_share
    if model.scale is None:
        back = _BACK + (_DENSE_BACK - _BACK) * dense_share
        return Recipe(config, False, config.lr * slower, round(config.steps * fewer), back)
    config = replace(
        config,
        path=1.0 - (1.0 - config.path) * dense_share,
        reattack_steps=round(config.reattack_steps * dense_share),
        stage=config.stage * dense_share,
        feature=_ADAPTIVE_FEATURE * config.feature,
    )
    steps = round(_ADAPTIVE_STEPS * config.steps * fewer)
    return Recipe(config, True, _ADAPTIVE_RATE * config.lr * slower, steps, 0.0)
