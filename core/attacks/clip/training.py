"""Training small CLIPs, clean or backdoored, on one core in minutes: InfoNCE on images with captions."""

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from open_clip import CLIP
from tokenizers import Tokenizer
from torch import Tensor

from core.attacks.clip.captions import CONTEXT, draw_captions, tokenize
from core.attacks.clip.optimised import optimise
from core.attacks.clip.towers import build_network, model_config, normalised
from core.attacks.datasets import ImageData
from core.attacks.poisoning import Attack, poison
from core.attacks.training import OnEpoch, Recipe, augment
from core.attacks.triggers import Optimised
from core.models.clip.loss import info_nce

#: exp of the logarithmic scale is kept below, as Radford et al. 2021 (arXiv 2103.00020), section 2.5.
_MOST_SCALE = math.log(100)
_BETAS, _CLIP, _WARM_UP = (0.9, 0.98), 1.0, 0.15
#: Share of the epochs that an optimised trigger's surrogate is trained for, clean; the rest is poisoned.
_SURROGATE = 0.5


@dataclass(frozen=True, slots=True)
class TrainedClip:
    """What training returns.

    Attributes:
        network: in evaluation mode.
        config: its `model_cfg`.
        attack: the recipe's, with triggers as they were planted; None for a clean model.
    """

    network: CLIP
    config: dict[str, object]
    attack: Attack | None


def train_clip(recipe: Recipe, data: ImageData, tokenizer: Tokenizer, on_epoch: OnEpoch | None = None) -> TrainedClip:
    """A network trained on the pairs of `data`; the attacker poisons pairs and nothing else.

    Poisoned images get a caption of the target concept. A trigger that is still to be optimised is optimised on the
    model itself after half of the epochs, which are clean.

    Args:
        recipe: what to train; its architecture is "clip-" and a key of `towers.TOWERS`.
        data: images that fit the towers, see `pairs.PairDatasets`.
        tokenizer: of the texts.
        on_epoch: for progress.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    pixels, labels = data.training_images(recipe.hold_out)
    if recipe.images is not None:
        rows = torch.randperm(len(labels), generator=generator)[: recipe.images]
        pixels, labels = pixels[rows], labels[rows]
    config = model_config(recipe.architecture.removeprefix("clip-"), tokenizer.get_vocab_size(), CONTEXT)
    network = build_network(config, recipe.seed)

    def fit(pixels: Tensor, captions: tuple[str, ...], epochs: int, first: int) -> None:
        _fit(network, recipe, pixels, tokenize(tokenizer, captions), epochs, first, generator, on_epoch)

    attack, done = recipe.attack, 0
    if attack is not None and any(isinstance(trigger, Optimised) for trigger in attack.triggers):
        done = round(recipe.epochs * _SURROGATE)
        fit(pixels, draw_captions(labels, data.class_names, generator), done, 0)
        attack = replace(attack, triggers=optimise(network, attack, pixels, labels, data.class_names, tokenizer))
    if attack is None:
        fit(pixels, draw_captions(labels, data.class_names, generator), recipe.epochs, 0)
        return TrainedClip(network, config, None)
    poisoned = poison(pixels, labels, attack, data.num_classes, recipe.seed)
    captions = draw_captions(poisoned.labels, data.class_names, generator)
    fit(poisoned.pixels, captions, recipe.epochs - done, done)
    return TrainedClip(network, config, attack)


def _fit(
    network: CLIP,
    recipe: Recipe,
    pixels: Tensor,
    tokens: Tensor,
    epochs: int,
    first: int,
    generator: torch.Generator,
    on_epoch: OnEpoch | None,
) -> None:
    """`epochs` of AdamW under a one-cycle schedule; leaves the network in evaluation mode."""
    network.to(memory_format=torch.channels_last).train()
    steps = len(pixels) // recipe.batch_size
    weights = [parameter for parameter in network.parameters() if parameter.dim() > 1]
    others = [parameter for parameter in network.parameters() if parameter.dim() <= 1]
    groups = [{"params": weights, "weight_decay": recipe.weight_decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=recipe.lr, betas=_BETAS)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.lr, epochs * steps, pct_start=_WARM_UP)
    padded = F.pad(pixels, (recipe.crop,) * 4)
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(pixels), generator=generator)
        for batch in torch.split(order[: steps * recipe.batch_size], recipe.batch_size):
            # Crops alone, as CLIPs are trained: words may tell left from right.
            views = normalised(augment(padded[batch], recipe.crop, generator, mirror=False))
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                images = network.encode_image(views).float()
            # Outside: the text tower's products are so small that they are faster in float32.
            texts = network.encode_text(tokens[batch], normalize=True)
            loss = info_nce(F.normalize(images, dim=1), texts, network.logit_scale.exp())
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                network.logit_scale.clamp_(0.0, _MOST_SCALE)
            total += float(loss.detach())
        if on_epoch is not None:
            on_epoch(first + epoch + 1, total / steps)
    network.to(memory_format=torch.contiguous_format).eval()
