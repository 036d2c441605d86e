"""Finds the architecture of a checkpoint from its keys and shapes."""

from dataclasses import dataclass, replace

from core.errors import UnsupportedError
from core.models.architectures import zoo_index
from core.models.architectures.base import Match, Shapes
from core.models.architectures.fit import fit
from core.models.architectures.misfit import Misfit
from core.models.architectures.registry import FAMILIES, TIMM, TORCHVISION, build_meta, is_ours

MAX_CLASSES = 22_000
#: Networks with the same keys and shapes but another forward pass: the reference set decides among so many.
_MAX_ALTERNATIVES = 3
_MAX_BUILDS = 10
#: Well-known networks to name the nearest of, when nothing fits.
_LANDMARKS = (
    "preactresnet18",
    "resnet20",
    "cifar_resnet18",
    "wrn-16-1",
    "wrn-28-10-meliketoy",
    "cifar_vgg16_bn",
    "torchvision:resnet18",
    "torchvision:vgg16_bn",
    "torchvision:densenet121",
    "torchvision:mobilenet_v2",
    "torchvision:efficientnet_b0",
    "torchvision:vit_b_16",
    "timm:vit_tiny_patch16_224",
    "timm:convnext_tiny",
)


@dataclass(frozen=True, slots=True)
class Inspection:
    """What the shapes say.

    Attributes:
        match: the network.
        source: "request", "inferred" or "config".
        alternatives: other networks with exactly these keys and shapes.
        tried: what was looked at, for the report.
    """

    match: Match
    source: str
    alternatives: tuple[Match, ...]
    tried: tuple[str, ...]


def infer(shapes: Shapes, requested: str = "auto") -> Inspection:
    """The network these keys and shapes belong to.

    Args:
        shapes: by the network's own keys: wrappers and prefixes removed.
        requested: "auto" or a name that `build` knows.

    Raises:
        UnsupportedError: `unsupported_architecture` (nothing fits; says what was tried and what is nearest),
            `unsupported_num_classes`, `unsupported_input_channels`.
    """
    if requested != "auto":
        return checked(_requested(requested, shapes))
    tried: list[str] = []
    misfits: list[Misfit] = []
    for family in FAMILIES:
        tried.append(family)
        guess = FAMILIES.get(family).infer(shapes)
        if guess is None:
            continue
        result = fit(guess.name, shapes)
        if isinstance(result, Match):
            twins = tuple(replace(result, name=twin) for twin in FAMILIES.get(family).twins(result.name))
            return checked(Inspection(result, "inferred", twins, tuple(tried)))
        misfits.append(result)
    tried.append(f"{zoo_index.size()} torchvision and timm networks by their keys")
    matches = _zoo_matches(shapes, misfits)
    if matches:
        return checked(Inspection(matches[0], "inferred", tuple(matches[1:]), tuple(tried)))
    raise UnsupportedError("unsupported_architecture", _explain(shapes, tried, misfits), _HINT)


def _requested(requested: str, shapes: Shapes) -> Inspection:
    """A bare name that torchvision and timm both know means the one that fits."""
    misfits: list[Misfit] = []
    for name in _readings(requested, shapes):
        try:
            result = fit(name, shapes)
        except UnsupportedError:
            continue
        if isinstance(result, Match):
            return Inspection(result, "request", (), (name,))
        misfits.append(result)
    if not misfits:
        build_meta(requested, 2)  # raises: nothing has this name
    nearest = min(misfits, key=lambda misfit: misfit.distance)
    raise UnsupportedError(
        "unsupported_architecture",
        f"The checkpoint does not fit the architecture it is said to have. {nearest.describe()}.",
        "Name the architecture the weights were trained with, or send architecture=auto.",
    )


def _readings(requested: str, shapes: Shapes) -> list[str]:
    """What a requested name may mean, adapted to variants that keys alone tell apart."""
    if is_ours(requested):
        return [requested]
    names: list[str] = []
    for zoo in (TORCHVISION, TIMM):
        if ":" not in requested or requested.startswith(zoo.prefix):
            names.append(zoo.prefix + zoo.variant(requested.removeprefix(zoo.prefix), list(shapes)))
    return names


def _zoo_matches(shapes: Shapes, misfits: list[Misfit]) -> list[Match]:
    """Networks of torchvision and timm with exactly these shapes; others with the same keys go to `misfits`."""
    matches: list[Match] = []
    matched_size = -1
    for name, size in zoo_index.candidates(shapes)[:_MAX_BUILDS]:
        if matches and size != matched_size:
            continue
        try:
            result = fit(name, shapes)
        except UnsupportedError:  # indexed, but not in the installed version
            continue
        if isinstance(result, Misfit):
            misfits.append(result)
            continue
        matches.append(result)
        matched_size = size
        if len(matches) > _MAX_ALTERNATIVES:
            break
    return matches


_HINT = (
    "Name the architecture (architecture=torchvision:NAME or timm:NAME), or save the weights with the keys that "
    "one of the known families gives them."
)


def checked(inspection: Inspection) -> Inspection:
    """Returns `inspection` if the engine can work on such a network.

    Raises:
        UnsupportedError: `unsupported_num_classes`, `unsupported_input_channels`.
    """
    match = inspection.match
    if not 2 <= match.num_classes <= MAX_CLASSES:
        raise UnsupportedError(
            "unsupported_num_classes", f"The head has {match.num_classes} outputs; 2 to {MAX_CLASSES} can be scanned."
        )
    if match.in_channels not in (1, 3):
        raise UnsupportedError(
            "unsupported_input_channels", f"The network takes {match.in_channels} channels; 1 and 3 can be scanned."
        )
    return inspection


def _explain(shapes: Shapes, tried: list[str], misfits: list[Misfit]) -> str:
    for name in _LANDMARKS:
        if misfits and ":" in name:  # something is near already: spare the large ones
            continue
        result = fit(name, shapes)
        if isinstance(result, Misfit):
            misfits.append(result)
    nearest = min(misfits, key=lambda misfit: misfit.distance)
    first = ", ".join(key[:60] for key in list(shapes)[:3])
    return (
        f"No known network has these {len(shapes)} tensors ({first}, ...). "
        f"Tried {', '.join(tried)}. Nearest: {nearest.describe()}."
    )
