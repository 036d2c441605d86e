"""Reads a reference set from an archive or a folder: decoded, resized, labelled, with a reason for every reject."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.data.labels import Labelling, read_labels
from core.data.members import Members, open_members
from core.data.transforms import open_image, to_pixels
from core.errors import InvalidInputError

MIN_IMAGES = 10
MAX_IMAGES = 20_000
#: Decoded, at the model's input size.
MAX_DECODED_BYTES = 4 << 30
_MAX_REASONS = 100
_PEEKS = 200

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class DecodedReference:
    """A reference set at the model's input size.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64, or None.
        report: what was used and what was not, as JSON.
    """

    pixels: Tensor
    labels: Tensor | None
    report: dict[str, Any]


def read_reference(
    path: Path,
    *,
    num_classes: int,
    channels: int,
    choose_size: Callable[[Size | None], Size],
    on_progress: Callable[[float], None],
) -> DecodedReference:
    """Reads the archive or folder at `path`.

    Args:
        num_classes: K.
        channels: of the model's input: 1 or 3.
        choose_size: the model's (H, W), given the images' own size if they all have one.
        on_progress: called with the fraction done.

    Raises:
        InvalidInputError: `reference_too_small`, `reference_too_large`, `reference_labels_do_not_fit`, ...
    """
    with open_members(path) as members:
        labelling = read_labels(members.names, members.read, num_classes)
        if len(labelling.images) > MAX_IMAGES:
            raise InvalidInputError(
                "reference_too_large",
                f"{len(labelling.images)} images; at most {MAX_IMAGES}.",
                "A few hundred images per ten classes are enough.",
            )
        native = _native_size(members, labelling.images)
        size = choose_size(native)
        if len(labelling.images) * channels * size[0] * size[1] > MAX_DECODED_BYTES:
            raise InvalidInputError(
                "reference_too_large", f"{len(labelling.images)} images of {size} are too much.", "Send fewer images."
            )
        return _decode(members, labelling, channels, size, native, on_progress)


def _native_size(members: Members, names: list[str]) -> Size | None:
    """(H, W) if all of up to 200 images spread over the set have it."""
    sizes: set[Size] = set()
    for name in names[:: max(1, len(names) // _PEEKS)]:
        try:
            image = open_image(members.read(name))
        except ValueError:  # counted as rejected when decoded
            continue
        sizes.add((image.height, image.width))
    return next(iter(sizes)) if len(sizes) == 1 else None


def _decode(
    members: Members,
    labelling: Labelling,
    channels: int,
    size: Size,
    native: Size | None,
    on_progress: Callable[[float], None],
) -> DecodedReference:
    rejected = list(labelling.rejected)
    kept: list[int] = []
    pixels: list[Tensor] = []
    for i, name in enumerate(labelling.images):
        if i % 64 == 0:
            on_progress(i / len(labelling.images))
        try:
            pixels.append(to_pixels(open_image(members.read(name)), channels, size))
        except ValueError as error:  # of the member or of the image in it
            rejected.append(f"{name}: {error}")
            continue
        kept.append(i)
    if len(pixels) < MIN_IMAGES:
        why = f" Not used: {'; '.join(reason[:160] for reason in rejected[:5])}." if rejected else ""
        raise InvalidInputError(
            "reference_too_small",
            f"{len(pixels)} usable images; at least {MIN_IMAGES} are needed.{why}",
            "Send PNG, JPEG or WEBP images the model was made for, some tens per class.",
        )
    labels = None
    if labelling.labels is not None:
        labels = torch.tensor([labelling.labels[i] for i in kept], dtype=torch.int64)
    report = {
        "images": len(members.names),
        "images_used": len(kept),
        "labelled": labels is not None,
        "classes_present": len(set(labels.tolist())) if labels is not None else 0,
        "class_names": list(labelling.class_names),
        "label_mapping": labelling.mapping,
        "native_size": list(native) if native else None,
        "size": list(size),
        "rejected": _shortened(rejected),
    }
    return DecodedReference(torch.stack(pixels), labels, report)


def _shortened(reasons: list[str]) -> list[str]:
    shown = [reason[:240] for reason in reasons[:_MAX_REASONS]]
    return shown + ([f"... and {len(reasons) - _MAX_REASONS} more"] if len(reasons) > _MAX_REASONS else [])
