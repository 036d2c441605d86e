"""What the configurations of repositories say about preprocessing, in pixel space [0, 1]."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from core.errors import InvalidInputError
from core.models.declared import MAX_SIDE, Declared

Size = tuple[int, int]
#: Filter names by Pillow's number.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
_WHITE = 255.0
_COLOURS = 3
#: Processors that do not normalise unless they are told to, though their files hold a mean.
_NEVER_NORMALISE = "MobileViT"


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Mean, standard deviation and size as `Declared`, and what a scan takes note of beyond them.

    Attributes:
        declared: for the network's input.
        crop: share of the resized image's side that the centre crop keeps, in (0, 1]; None if nobody says.
        filter: resampling filter; empty if nobody says.
        squash: resizing does not keep proportions.
        bgr: channels are turned round: blue first.
    """

    declared: Declared
    crop: float | None = None
    filter: str = ""
    squash: bool = False
    bgr: bool = False


def transformers_preprocessing(config: Mapping[str, Any], where: str, channels: int) -> Preprocessing:
    """From preprocessor_config.json; an empty one says nothing.

    Raises:
        InvalidInputError: `invalid_config`.
    """
    if not config:
        return Preprocessing(Declared())
    mean, std = _normalisation(config, where, channels)
    size, crop = _sizes(config, where)
    number = config.get("resample")
    return Preprocessing(
        Declared(mean, std, size, where if mean or size else ""),
        crop,
        _FILTERS.get(number, "") if isinstance(number, int) else "",
        _squashes(config),
        config.get("do_flip_channel_order") is True,
    )


def timm_preprocessing(config: Mapping[str, Any], where: str, channels: int) -> Preprocessing:
    """From `pretrained_cfg`; old files have its fields at the top.

    Raises:
        InvalidInputError: `invalid_config`.
    """
    nested = config.get("pretrained_cfg")
    said = nested if isinstance(nested, Mapping) else config
    mean, std = _values(said, "mean", where, channels), _values(said, "std", where, channels)
    if (mean is None) != (std is None) or (std and min(std) <= 0):
        raise _invalid(where, "mean and std must both be there, std positive")
    size = None
    if said.get("input_size") is not None:
        sides = said["input_size"]
        if not isinstance(sides, list) or len(sides) != 3:
            raise _invalid(where, "input_size is not channels, height, width")
        size = _pair(sides[1:], where, "input_size")
    crop, name = said.get("crop_pct"), said.get("interpolation")
    return Preprocessing(
        Declared(mean, std, size, where if mean or size else ""),
        float(crop) if _is_number(crop) and 0 < crop <= 1 else None,
        name if isinstance(name, str) and name in _FILTERS.values() else "",
    )


def open_clip_preprocessing(config: Any, where: str) -> Preprocessing:
    """From `preprocess_cfg` of open_clip_config.json; what it leaves out is what open_clip takes then.

    The size is the image tower's, whatever stands here.

    Raises:
        InvalidInputError: `invalid_config`.
    """
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    said = config if isinstance(config, Mapping) else {}
    mean = _values(said, "mean", where, _COLOURS) or OPENAI_DATASET_MEAN
    std = _values(said, "std", where, _COLOURS) or OPENAI_DATASET_STD
    if min(std) <= 0:
        raise _invalid(where, "std must be positive")
    name = said.get("interpolation", "bicubic")
    return Preprocessing(
        Declared(tuple(mean), tuple(std), None, where),
        filter=name if isinstance(name, str) and name in _FILTERS.values() else "",
        squash=said.get("resize_mode") == "squash",
    )


def _normalisation(
    config: Mapping[str, Any], where: str, channels: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Mean and deviation such that (pixel - mean) / std is what the processor makes of a pixel in [0, 1].

    The processor multiplies bytes by `rescale_factor` (and may subtract one), then normalises. Both are None where
    the file leaves the figures to the processor's own code.
    """
    factor, offset = 1.0, 0.0
    if config.get("do_rescale", True):
        factor = config.get("rescale_factor", 1 / _WHITE)
        if not _is_number(factor) or not 1e-6 <= factor <= 1:
            raise _invalid(where, f"rescale_factor is {str(factor)[:40]!r}")
        offset = 1.0 if config.get("rescale_offset") is True else 0.0
    means, stds = (0.0,) * channels, (1.0,) * channels
    named = config.get("image_processor_type") or config.get("feature_extractor_type")
    if config.get("do_normalize", not str(named).startswith(_NEVER_NORMALISE)):
        said = [_values(config, field, where, channels) for field in ("image_mean", "image_std")]
        if said[0] is None or said[1] is None:
            return None, None
        means, stds = said[0], said[1]
        if min(stds) <= 0:
            raise _invalid(where, "image_std must be positive")
    gain = _WHITE * factor
    top = stds if config.get("include_top") is True else (1.0,) * channels  # EfficientNet divides once more
    return (
        tuple((offset + mean) / gain for mean in means),
        tuple(std * more / gain for std, more in zip(stds, top, strict=True)),
    )


def _sizes(config: Mapping[str, Any], where: str) -> tuple[Size | None, float | None]:
    """(input size, share that the crop keeps)."""
    resized = _size(config.get("size"), where, "size") if config.get("do_resize", True) else None
    crop = config.get("crop_size") if config.get("do_center_crop") is True else None
    share = config.get("crop_pct")
    kept = float(share) if _is_number(share) and 0 < share <= 1 else None
    if crop is None:
        return resized, kept
    cropped = _size(crop, where, "crop_size")
    if cropped and resized and max(resized) > 0:
        kept = min(1.0, max(cropped) / max(resized))
    return cropped, kept


def _squashes(config: Mapping[str, Any]) -> bool:
    """Whether the processor is told a height and a width, and not the length of one side."""
    size = config.get("size")
    if config.get("do_resize", True) is False:
        return False
    return isinstance(size, Mapping) and size.get("height") is not None and size.get("width") is not None


def _size(value: Any, where: str, field: str) -> Size | None:
    """224, {"height": 224, "width": 224}, {"shortest_edge": 224}, or [224, 224]."""
    if isinstance(value, Mapping):
        if "height" in value or "width" in value:
            value = [value.get("height"), value.get("width")]
        else:
            value = value.get("shortest_edge") or value.get("longest_edge")
    if value is None:
        return None
    return _pair(value if isinstance(value, list) else [value, value], where, field)


def _pair(value: list[Any], where: str, field: str) -> Size:
    if len(value) != 2 or not all(type(side) is int and 1 <= side <= MAX_SIDE for side in value):
        raise _invalid(where, f"{field} is {str(value)[:60]}, not a height and a width of 1 to {MAX_SIDE}")
    return value[0], value[1]


def _values(config: Mapping[str, Any], field: str, where: str, channels: int) -> tuple[float, ...] | None:
    value = config.get(field)
    if value is None:
        return None
    numbers = value if isinstance(value, list) else [value]
    if len(numbers) not in (1, channels) or not all(_is_number(number) and abs(number) <= 1e4 for number in numbers):
        raise _invalid(where, f"{field} is {str(value)[:60]}, not one number for each of {channels} channels")
    return tuple(map(float, numbers)) if len(numbers) == channels else (float(numbers[0]),) * channels


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _invalid(where: str, what: str) -> InvalidInputError:
    return InvalidInputError("invalid_config", f"{where}: {what}.", "Correct the file.")
