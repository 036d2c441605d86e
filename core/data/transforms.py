"""From image files to pixel space, and the usual ways from pixel space to model input."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

MAX_PIXELS = 25_000_000
_FORMATS = ("PNG", "JPEG", "WEBP")
#: Bilinear, as the usual training code has it.
_FILTER = Image.Resampling.BILINEAR

Normalisation = tuple[tuple[float, ...], tuple[float, ...]]

_RGB: dict[str, Normalisation] = {
    "identity": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar10-narrow": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "gtsrb": ((0.3403, 0.3121, 0.3214), (0.2724, 0.2608, 0.2669)),
    "mnist": ((0.1307,) * 3, (0.3081,) * 3),
    "fashion-mnist": ((0.2860,) * 3, (0.3530,) * 3),
}
_GREY = {
    "identity": ((0.0,), (1.0,)),
    "half": ((0.5,), (0.5,)),
    "mnist": ((0.1307,), (0.3081,)),
    "fashion-mnist": ((0.2860,), (0.3530,)),
}


def normalisations(channels: int) -> dict[str, Normalisation]:
    """The usual (mean, std) by name for images of `channels` channels."""
    return dict(_RGB if channels == 3 else _GREY)


class ImageRejectedError(ValueError):
    """One image is not used; the text is the reason."""


def open_image(content: bytes) -> Image.Image:
    """The image in `content`, header read, pixels not decoded yet.

    Raises:
        ImageRejectedError: not one frame of at most MAX_PIXELS in an allowed format.
    """
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # decoders raise whatever they like at foreign bytes
        raise ImageRejectedError("cannot be read as PNG, JPEG or WEBP") from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageRejectedError(f"{image.width} x {image.height} pixels are too many")
    if frames != 1:
        raise ImageRejectedError(f"{frames} frames; one is expected")
    if image.mode.startswith(("I", "F")):
        raise ImageRejectedError("more than 8 bits per channel")
    return image


def to_pixels(image: Image.Image, channels: int, size: tuple[int, int]) -> Tensor:
    """Decodes, converts and resizes: shorter side to fit, then the centre.

    Args:
        image: from `open_image`.
        channels: 1 (converted to grey) or 3 (converted to RGB).
        size: (H, W).

    Returns:
        (C, H, W) uint8.

    Raises:
        ImageRejectedError: the image data are damaged.
    """
    height, width = size
    try:
        image = image.convert("L" if channels == 1 else "RGB")
    except Exception as error:  # as in open_image
        raise ImageRejectedError("damaged or truncated image data") from error
    if (image.height, image.width) != size:
        scale = max(height / image.height, width / image.width)
        box = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
        image = image.resize(box, _FILTER)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    array = np.array(image, dtype=np.uint8).reshape(height, width, channels)
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()
