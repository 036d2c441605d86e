"""Neural Cleanse: a trigger is inverted for every class, and a class whose trigger is far too small is a target.

IEEE S&P 2019 (Wang et al.), section IV. Per class t: min over mask and pattern of
CE(f((1 - m) x + m p), t) + lambda |m|_1, Adam at 0.1 with betas (0.5, 0.9), batches of 32 images; lambda starts at
0.001 once the trigger works on 99 % of the images, grows by 1.5 while it keeps working and falls by 1.5^1.5 while it
does not. The smallest mask that still worked is the class's; the anomaly index over 2 is a detection.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from core import devices
from core.baselines.anomaly import anomaly_indices
from core.baselines.protocol import DETECTORS, Detected
from core.baselines.training import Passes
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel

_LR, _BETAS = 0.1, (0.5, 0.9)
_FIRST_COST, _UP, _DOWN = 1e-3, 1.5, 1.5**1.5
_WORKS = 0.99
#: How many steps are one look at the success rate, and how many looks in a row change the cost.
_LOOK, _PATIENCE = 10, 5
THRESHOLD = 2.0


class _CostControl:
    """The weight of the mask's size: off until the trigger works, then up and down with its success."""

    def __init__(self) -> None:
        self.cost = 0.0
        self._working = self._failing = 0

    def update(self, success: float) -> None:
        """Args: success: share of the latest look's images that went to the class."""
        works = success >= _WORKS
        self._working = self._working + 1 if works else 0
        self._failing = 0 if works else self._failing + 1
        if self._working >= _PATIENCE:
            self._working = 0
            self.cost = self.cost * _UP if self.cost else _FIRST_COST
        elif self._failing >= _PATIENCE:
            self._failing = 0
            self.cost /= _DOWN


@dataclass(frozen=True, slots=True)
class NeuralCleanse:
    """Attributes: steps per class and images per step."""

    name: ClassVar[str] = "neural-cleanse"
    steps: int = 1000
    batch_size: int = 32

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Detected:
        """See `Detector`; the score is the largest anomaly index."""
        generator, passes, classes = torch.Generator().manual_seed(seed), Passes(), suspect.num_targets
        model = suspect.clone()
        sizes = [
            self._invert(
                model, target, reference, passes, generator, ctx.part(target / classes, (target + 1) / classes)
            )
            for target in range(classes)
        ]
        ctx.progress(1.0)
        indices = anomaly_indices(torch.tensor(sizes))
        score, target = float(indices.max()), int(indices.argmax())
        suspicious = score > THRESHOLD
        detail = {f"mask_{number}": size for number, size in enumerate(sizes)}
        return Detected(score, target if suspicious else None, suspicious, passes.images, detail)

    def _invert(
        self,
        model: SuspectModel,
        target: int,
        reference: ReferenceSet,
        passes: Passes,
        generator: torch.Generator,
        ctx: RunContext,
    ) -> float:
        """L1 norm, in pixels, of the smallest mask that worked; of the last one if none did."""
        device = reference.pixels.device
        mask_raw = torch.randn((1, *model.input_shape[1:]), generator=generator).to(device).requires_grad_(True)
        pattern_raw = torch.randn(model.input_shape, generator=generator).to(device).requires_grad_(True)
        optimizer = torch.optim.Adam([mask_raw, pattern_raw], _LR, _BETAS)
        control, best, hits = _CostControl(), float("inf"), 0
        wanted = torch.full((self.batch_size,), target, device=device)
        with devices.fast_inference(model.module, device):
            for step in range(1, self.steps + 1):
                ctx.progress((step - 1) / self.steps)
                rows = torch.randint(len(reference), (self.batch_size,), generator=generator).to(device)
                mask, pattern = _unit(mask_raw), _unit(pattern_raw)
                log_posterior = model.target_log_posterior((1 - mask) * reference.pixels[rows] + mask * pattern)
                passes.both(self.batch_size)
                size = mask.abs().sum()
                loss = F.nll_loss(log_posterior, wanted) + control.cost * size
                mask_raw.grad, pattern_raw.grad = torch.autograd.grad(loss, [mask_raw, pattern_raw])
                optimizer.step()
                hits += int((log_posterior.argmax(1) == target).sum())
                if step % _LOOK == 0:
                    success = hits / (_LOOK * self.batch_size)
                    if success >= _WORKS:
                        best = min(best, float(size.detach()))
                    control.update(success)
                    hits = 0
        return best if best < float("inf") else float(_unit(mask_raw.detach()).sum())


def _unit(raw: Tensor) -> Tensor:
    """Any real to (0, 1)."""
    return (raw.tanh() + 1) / 2


DETECTORS.register("neural-cleanse")(NeuralCleanse())
