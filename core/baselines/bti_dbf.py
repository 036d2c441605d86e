"""BTI-DBF: trigger inversion by decoupling benign features (ICLR 2024, Xu et al.).

1. A mask m in [0, 1] over the channels a of the features before the head decouples what classifies clean images:
   min CE(head(m a), y) - min(CE(head((1 - m) a), y), log K) + weight mean(m). The last term is that of arXiv
   2405.19928: without it, or with the second unbounded, all channels of a small network are called benign.
2. A generator G changes images so that benign features stay and the others move:
   min |m (a(x) - a(G(x)))|^2 - |(1 - m) (a(x) - a(G(x)))|^2, relative to |a|^2, under a bound on G(x) - x.
On a backdoored model G finds the trigger, and most images go to its target; on a clean one they scatter. The score is
the largest share of images of other classes that one class receives, and that class is the target: no scan over
classes. The paper repairs models and gives no threshold for detection; ours is half of the images.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.baselines.generator import TriggerGenerator
from core.baselines.protocol import DETECTORS, Detected
from core.baselines.training import Passes, batches, half_precision
from core.context import RunContext
from core.data.reference import ReferenceSet
from core.models.protocol import SuspectModel
from core.models.splitting import head_path

THRESHOLD = 0.5
_MASK_STEPS, _MASK_LR = 300, 0.05
_GENERATOR_LR = 1e-3
#: Share of the progress that the mask takes: it needs one forward pass of the images only.
_MASK_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class DecoupledInversion:
    """Attributes: epochs and batch size of the generator; bound on the change of an image, root mean square; weight of
    the mask's mean."""

    name: ClassVar[str] = "bti-dbf"
    epochs: int = 30
    batch_size: int = 64
    bound: float = 0.05
    sparsity: float = 3.0

    def __call__(self, suspect: SuspectModel, reference: ReferenceSet, *, seed: int, ctx: RunContext) -> Detected:
        """See `Detector`."""
        generator, passes = torch.Generator().manual_seed(seed), Passes()
        model = suspect.clone()
        model.module.to(memory_format=torch.channels_last)
        head = model.module.get_submodule(head_path(model.module, model.num_targets))
        mask = self._benign_mask(model, head, reference, passes, ctx)
        ctx.progress(_MASK_SHARE)
        inverted = self._invert(model, head, mask, reference, passes, generator, seed, ctx.part(_MASK_SHARE, 1.0))
        with torch.no_grad():
            answers = [
                model.target_log_posterior(inverted(part)).argmax(1) for part in torch.split(reference.pixels, 256)
            ]
        passes.forward(len(reference))
        counts = _arrivals(torch.cat(answers), reference.labels, model.num_targets)
        score, target = float(counts.max()), int(counts.argmax())
        suspicious = score > THRESHOLD
        detail = {
            "benign_share": float(mask.mean()),
            **{f"share_{k}": share for k, share in enumerate(counts.tolist())},
        }
        return Detected(score, target if suspicious else None, suspicious, passes.images, detail)

    def _benign_mask(
        self, model: SuspectModel, head: nn.Module, reference: ReferenceSet, passes: Passes, ctx: RunContext
    ) -> Tensor:
        """(D,) in (0, 1): near one for the channels that classify clean images."""
        with torch.no_grad(), _inputs_of(head) as seen:
            for part in torch.split(reference.pixels, 256):
                model.target_log_posterior(part)
        passes.forward(len(reference))
        features, labels = torch.cat(seen), reference.labels
        raw = torch.zeros(features.shape[1], device=features.device, requires_grad=True)
        optimizer = torch.optim.Adam([raw], _MASK_LR)
        for _ in range(_MASK_STEPS):
            ctx.checkpoint()
            mask = _along_channels(raw.sigmoid(), features)
            kept, rest = head(mask * features).flatten(1), head((1 - mask) * features).flatten(1)
            confusion = F.cross_entropy(rest, labels).clamp(max=math.log(model.num_targets))
            loss = F.cross_entropy(kept, labels) - confusion + self.sparsity * mask.mean()
            (raw.grad,) = torch.autograd.grad(loss, [raw])
            optimizer.step()
        return raw.detach().sigmoid()

    def _invert(
        self,
        model: SuspectModel,
        head: nn.Module,
        mask: Tensor,
        reference: ReferenceSet,
        passes: Passes,
        generator: torch.Generator,
        seed: int,
        ctx: RunContext,
    ) -> TriggerGenerator:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            inverted = TriggerGenerator(model.input_shape[0], self.bound)
        inverted.to(mask.device).to(memory_format=torch.channels_last)
        weights = list(inverted.parameters())
        optimizer = torch.optim.Adam(weights, _GENERATOR_LR)
        for batch in batches(reference, epochs=self.epochs, size=self.batch_size, generator=generator, ctx=ctx):
            with half_precision(batch.pixels), _inputs_of(head) as seen:
                with torch.no_grad():
                    model.target_log_posterior(batch.pixels)
                model.target_log_posterior(inverted(batch.pixels))
            passes.forward(len(batch))
            passes.both(len(batch))
            clean, changed = (features.float() for features in seen)
            apart = (clean - changed).square()
            # m apart - (1 - m) apart
            loss = ((2 * _along_channels(mask, apart) - 1) * apart).sum() / clean.square().sum()
            for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                weight.grad = slope
            optimizer.step()
        return inverted


@contextlib.contextmanager
def _inputs_of(layer: nn.Module) -> Iterator[list[Tensor]]:
    """What the layer is given, pass after pass, for the duration."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        yield seen
    finally:
        handle.remove()


def _along_channels(values: Tensor, features: Tensor) -> Tensor:
    """(D,) -> shaped to multiply (B, D) or (B, D, H, W)."""
    return values.view(1, -1, *([1] * (features.dim() - 2)))


def _arrivals(answers: Tensor, labels: Tensor, classes: int) -> Tensor:
    """(K,): the share of the images of other classes that each class receives."""
    others = labels[:, None] != torch.arange(classes, device=labels.device)
    arrived = (answers[:, None] == torch.arange(classes, device=labels.device)) & others
    return arrived.sum(0) / others.sum(0).clamp(min=1)


DETECTORS.register("bti-dbf")(DecoupledInversion())
