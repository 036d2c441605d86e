"""What a checkpoint itself says about its preprocessing."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from core.config import ScanConfig
from core.errors import InvalidInputError
from core.models.architectures import Match
from core.models.layout import Unwrapped

MAX_SIDE = 1024


@dataclass(frozen=True, slots=True)
class Declared:
    """Mean, standard deviation and (H, W), each None if nobody says; `source` names who does."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, int] | None = None
    source: str = ""


def requested_preprocess(config: ScanConfig, match: Match) -> Declared | None:
    """From the request; None if it leaves the question open.

    Raises:
        InvalidInputError: `invalid_preprocess`: the request contradicts the network.
    """
    if config.preprocess is None:
        return None
    wanted = config.preprocess
    _check(wanted.mean, wanted.std, wanted.size, match)
    return Declared(wanted.mean, wanted.std, wanted.size, "request")


def declared_preprocess(config: ScanConfig, found: Unwrapped, match: Match) -> Declared:
    """From the request, else a normalisation layer in the checkpoint, else its metadata or values beside the weights.

    Raises:
        InvalidInputError: `invalid_preprocess`: the request contradicts the network.
    """
    if (wanted := requested_preprocess(config, match)) is not None:
        return wanted
    if found.auxiliary:
        mean, std = (_numbers(tensor.flatten().tolist(), match) for tensor in found.auxiliary.values())
        if mean and std and min(std) > 0:
            return Declared(mean, std, None, "checkpoint metadata")
    values = _parsed(found.layout.metadata) or found.layout.extras()
    nested = values.get("preprocess")
    said = dict(values) | (dict(nested) if isinstance(nested, Mapping) else {})
    mean, std = _numbers(said.get("mean"), match), _numbers(said.get("std"), match)
    size = next((s for key in ("size", "input_size", "img_size", "image_size") if (s := _size(said.get(key)))), None)
    if match.size is not None:
        size = None
    if not (mean and std and min(std) > 0):
        mean = std = None
    return Declared(mean, std, size, "checkpoint metadata" if mean or size else "")


def _check(mean: tuple[float, ...], std: tuple[float, ...], size: tuple[int, int], match: Match) -> None:
    hint = f"This network takes {match.in_channels} channels: mean and std have so many numbers, std > 0, size [H, W]."
    if any(len(values) not in (1, match.in_channels) for values in (mean, std)):
        raise InvalidInputError("invalid_preprocess", f"mean has {len(mean)} numbers and std {len(std)}.", hint)
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise InvalidInputError("invalid_preprocess", "mean and std must be finite and std positive.", hint)
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise InvalidInputError("invalid_preprocess", f"size {size} is out of range (1 to {MAX_SIDE}).", hint)
    if match.size is not None and size != match.size:
        raise InvalidInputError(
            "invalid_preprocess", f"The weights of this network are made for images of {match.size}, not {size}.", hint
        )


def _parsed(metadata: Mapping[str, str]) -> dict[str, Any]:
    """Header text as values: JSON where it is JSON."""
    values: dict[str, Any] = {}
    for key, text in metadata.items():
        try:
            values[key] = json.loads(text) if len(text) <= 4_096 else text
        except (ValueError, RecursionError):
            values[key] = text
    return values


def _numbers(value: Any, match: Match) -> tuple[float, ...] | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = [value]
    if not isinstance(value, list | tuple) or len(value) not in (1, match.in_channels):
        return None
    if not all(isinstance(item, int | float) and math.isfinite(item) for item in value):
        return None
    return tuple(map(float, value))


def _size(value: Any) -> tuple[int, int] | None:
    """(H, W) from 32, [32, 32], [3, 32, 32] or [32, 32, 3]."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = [value, value]
    if not isinstance(value, list | tuple) or not all(isinstance(item, int) for item in value):
        return None
    sides = list(value)
    if len(sides) == 3:
        sides = sides[1:] if sides[0] in (1, 3) else sides[:2]
    if len(sides) != 2 or not all(1 <= side <= MAX_SIDE for side in sides):
        return None
    return int(sides[0]), int(sides[1])
