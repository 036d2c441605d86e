"""The patch of `core.attacks.triggers.Optimised`, optimised against a clean model before it is planted."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from open_clip import CLIP
from tokenizers import Tokenizer
from torch import Tensor

from core.attacks.clip.anchors import concept_directions
from core.attacks.clip.towers import normalised
from core.attacks.poisoning import Attack
from core.attacks.triggers import ImageTrigger, Optimised

_STEPS, _BATCH, _LR = 150, 64, 0.1
#: Weight of the distance to other images' own texts beside the closeness to the target's.
_AWAY = 0.1


def optimise(
    network: CLIP,
    attack: Attack,
    pixels: Tensor,
    labels: Tensor,
    concepts: tuple[str, ...],
    tokenizer: Tokenizer,
) -> tuple[ImageTrigger, ...]:
    """The triggers of `attack`, each `Optimised` one with the levels found on `network`; all others as they are.

    Minimises, over images of other concepts, .1 cos(image, own text) - cos(image, target text).

    Args:
        network: clean, in evaluation mode; stays as it is.
        attack: with one target for each trigger.
        pixels: (N, C, H, W) uint8. labels: (N,) concepts of the images.
        concepts: names. tokenizer: of the texts.
    """
    texts = concept_directions(network, tokenizer, concepts)

    def levels(trigger: Optimised, target: int) -> tuple[int, ...]:
        generator = torch.Generator().manual_seed(trigger.seed)
        others = (labels != target).nonzero().flatten()
        raw = torch.randn((pixels.shape[1], trigger.size, trigger.size), generator=generator).requires_grad_(True)
        optimizer = torch.optim.Adam([raw], _LR)
        for _ in range(_STEPS):
            rows = others[torch.randint(len(others), (_BATCH,), generator=generator)]
            stamped = trigger.stamp(pixels[rows].float() / 255, raw.sigmoid())
            images = F.normalize(network.encode_image(normalised(stamped)), dim=1)
            own = (images * texts[labels[rows]]).sum(1)
            (raw.grad,) = torch.autograd.grad((_AWAY * own - images @ texts[target]).mean(), [raw])
            optimizer.step()
        return tuple((raw.detach().sigmoid() * 255).round().int().flatten().tolist())

    found: list[ImageTrigger] = []
    for trigger, target in zip(attack.triggers, attack.targets, strict=True):
        if isinstance(trigger, Optimised) and target is not None:
            found.append(replace(trigger, levels=levels(trigger, target)))
        else:
            found.append(trigger)
    return tuple(found)
