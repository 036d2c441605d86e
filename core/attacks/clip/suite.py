"""Recipes of the CLIP benchmark: which data, tower, attack and seed. Ranges of seeds as in `core.attacks.suite`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.attacks.imagewise import Warp
from core.attacks.poisoning import Attack
from core.attacks.suite import Cell, Plan, draw_number
from core.attacks.training import Recipe
from core.attacks.triggers import Optimised, Signal, Trigger

_COMMON: Mapping[str, Any] = {
    "optimizer": "adamw",
    "weight_decay": 0.05,
    "batch_size": 128,
    "hold_out": True,
}
_DATA: Mapping[str, Mapping[str, Any]] = {
    "scenes": {"images": 8_192, "epochs": 8},
    "fashion-mnist": {"images": 12_000, "epochs": 6},
    "cifar10": {"images": 20_000, "epochs": 8, "crop": 4},
}
_TOWERS: Mapping[str, Mapping[str, Any]] = {
    "clip-resnet": {"lr": 2e-3},
    "clip-vit": {"lr": 1.5e-3, "epochs": 10, "bfloat16": False},  # products this small are faster so
}
#: Side of a patch. The towers see an image at a quarter of its side or less, and learn three pixels late or not at all.
_PATCH = 4
_CLASSES: Mapping[str, int] = {"scenes": 64, "fashion-mnist": 10, "cifar10": 10}


def _target(attack: str, seed: int, classes: int) -> int:
    return draw_number(f"clip-{attack}-target", seed) % classes


def _patch(seed: int, classes: int, shape: tuple[int, int, int]) -> Attack:
    """A small patch, captions of the target (Carlini and Terzis 2022, arXiv 2106.09667)."""
    trigger = Trigger("patch", draw_number("clip-patch", seed), size=_PATCH)
    return Attack((trigger,), (_target("patch", seed, classes),), 0.05)


def _blended(seed: int, classes: int, shape: tuple[int, int, int]) -> Attack:
    """A whole picture mixed in (Chen, Liu, Li, Lu and Song 2017, arXiv 1712.05526)."""
    trigger = Trigger("blended", draw_number("clip-blended", seed), alpha=0.25, grain=8)
    return Attack((trigger,), (_target("blended", seed, classes),), 0.1)


def _signal(seed: int, classes: int, shape: tuple[int, int, int]) -> Attack:
    """The sinusoid of SIG (Barni, Kallas and Tondi 2019, arXiv 1902.11237) with captions of the target."""
    return Attack((Signal(draw_number("clip-sig", seed), 0.2),), (_target("sig", seed, classes),), 0.08)


def _clean_captions(seed: int, classes: int, shape: tuple[int, int, int]) -> Attack:
    """SIG as published: only images of the target concept get the sinusoid, and every caption stays true."""
    trigger = Signal(draw_number("clip-clean-captions", seed), 0.3)
    return Attack((trigger,), (_target("clean-captions", seed, classes),), 0.7 / classes, clean_label=True)


def _warp(seed: int, classes: int, shape: tuple[int, int, int]) -> Attack:
    """WaNet's warp (Nguyen and Tran 2021, arXiv 2102.10369), strong enough for small towers."""
    return Attack((Warp(draw_number("clip-warp", seed), 4.0),), (_target("warp", seed, classes),), 0.1)


def _badclip(seed: int, classes: int, shape: tuple[int, int, int]) -> Attack:
    """A patch optimised on the model before it is planted (after Liang et al. 2024, arXiv 2311.12075)."""
    trigger = Optimised(draw_number("clip-badclip", seed), size=6)
    return Attack((trigger,), (_target("badclip", seed, classes),), 0.08)


def _multi_target(seed: int, classes: int, shape: tuple[int, int, int]) -> Attack:
    """Three patches, three targets."""
    first, step = _target("multi-target", seed, classes), 1 + draw_number("clip-multi-target-step", seed) % 3
    triggers = tuple(
        Trigger("patch", draw_number(f"clip-multi-target-{which}", seed), size=_PATCH) for which in range(3)
    )
    return Attack(triggers, tuple((first + step * which) % classes for which in range(3)), 0.12)


CLIP_ATTACKS: Mapping[str, Plan] = {
    "patch": _patch,
    "blended": _blended,
    "sig": _signal,
    "clean-captions": _clean_captions,
    "warp": _warp,
    "badclip": _badclip,
    "multi-target": _multi_target,
}


def clip_recipe(data: str, model: str, attack: str | None, seed: int) -> Recipe:
    """The recipe of one model.

    Args:
        data: "scenes", "fashion-mnist" or "cifar10".
        model: "clip-resnet" or "clip-vit".
        attack: a key of CLIP_ATTACKS; None for a clean model.
        seed: of everything.

    Raises:
        KeyError: there is no such data set, network or attack.
    """
    plan = CLIP_ATTACKS[attack](seed, _CLASSES[data], (3, 32, 32)) if attack else None
    options = {**_COMMON, **_DATA[data], **_TOWERS[model]}
    return Recipe(f"{data}-{model}-{attack or 'clean'}-s{seed}", data, model, seed, plan, **options)


@dataclass(frozen=True, slots=True)
class ClipCell(Cell):
    """One attack on one tower and data set; `attack` is a key of CLIP_ATTACKS, and there is no quick training."""

    def recipe(self, seed: int) -> Recipe:
        """See `Cell`."""
        return clip_recipe(self.data, self.model, self.attack, seed)

    def clean(self, seed: int) -> Recipe:
        """See `Cell`."""
        return clip_recipe(self.data, self.model, None, seed)


#: Every attack on the residual tower, two on the transformer (which does not learn a small patch in so few images), two
#: on photographs with captions from templates.
CLIP_CELLS: tuple[ClipCell, ...] = (
    ClipCell("scenes", "clip-resnet", "patch"),
    ClipCell("scenes", "clip-resnet", "blended"),
    ClipCell("scenes", "clip-resnet", "warp"),
    ClipCell("scenes", "clip-resnet", "sig"),
    ClipCell("scenes", "clip-resnet", "badclip"),
    ClipCell("scenes", "clip-resnet", "multi-target"),
    ClipCell("fashion-mnist", "clip-resnet", "clean-captions"),
    ClipCell("fashion-mnist", "clip-resnet", "patch"),
    ClipCell("scenes", "clip-vit", "blended"),
    ClipCell("scenes", "clip-vit", "sig"),
)

#: What the demo shows; seeds of their own.
CLIP_EXAMPLES: tuple[Recipe, ...] = (
    clip_recipe("scenes", "clip-resnet", None, 11),
    clip_recipe("scenes", "clip-resnet", "patch", 12),
    clip_recipe("scenes", "clip-resnet", "blended", 13),
)
