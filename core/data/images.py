"""From the bytes of an image file to a picture in memory: 8 bits, grey or RGB, the right way up."""

import io

from PIL import Image

from core.data.image_rules import Header, check_image
from core.data.rejects import ImageRejectedError

Size = tuple[int, int]

#: Bilinear, as the usual training code has it.
_FILTER = Image.Resampling.BILINEAR
_FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_ORIENTATION = 0x0112  # the EXIF tag
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


def open_image(content: bytes, name: str) -> Image.Image:
    """The image in `content`: checked, header read, pixels not decoded yet.

    Raises:
        ImageRejectedError: see image_rules.check_image; `image_damaged` or `image_depth` from the decoder.
    """
    header = check_image(content, name)
    try:
        image = Image.open(io.BytesIO(content), formats=(header.format,))
        frames = getattr(image, "n_frames", 1)
    except Exception as error:  # decoders raise whatever they like at foreign bytes
        raise _damaged(error) from error
    _check(image, header, frames)
    return image


def picture_size(image: Image.Image) -> Size:
    """(H, W) of the picture the right way up."""
    turned = _orientation(image) in _SIDEWAYS
    return (image.width, image.height) if turned else (image.height, image.width)


def decode(image: Image.Image, mode: str) -> Image.Image:
    """The pixels of an image from `open_image`, turned as EXIF says, without its palette, alpha or inks.

    Transparency is dropped, not blended, as training code does it.

    Args:
        mode: "L" (grey) or "RGB".

    Raises:
        ImageRejectedError: `image_damaged`, `image_truncated`: the image data are.
    """
    turn = _TURNS.get(_orientation(image))
    try:
        image.load()
        image = image.convert(mode)
    except Exception as error:  # as in open_image
        raise _damaged(error) from error
    return image if turn is None else image.transpose(turn)


def fit(image: Image.Image, size: Size, crop: float = 1.0, resample: str = "", *, squash: bool = False) -> Image.Image:
    """Resized so that the shorter side fits, then the centre; an image of that size already is left alone.

    Args:
        size: (H, W).
        crop: share of the resized image's shorter side that the centre keeps, in (0, 1].
        resample: name of a filter; bilinear, as the usual training code has it, for one that is not known.
        squash: both sides are resized to fit, whatever becomes of the proportions.
    """
    height, width = size
    if (image.height, image.width) == size:
        return image
    down, right = height / image.height / crop, width / image.width / crop
    if not squash:
        down = right = max(down, right)
    box = (max(width, round(image.width * right)), max(height, round(image.height * down)))
    image = image.resize(box, _FILTERS.get(resample, _FILTER))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def _check(image: Image.Image, header: Header, frames: int) -> None:
    if (image.width, image.height) != (header.width, header.height):
        raise ImageRejectedError("image_damaged", "damaged: two sizes in one file")
    if frames != 1:
        raise ImageRejectedError("image_frames", f"{frames} frames; one is expected")
    if image.mode not in _MODES:
        raise ImageRejectedError("image_depth", f"pixels of kind {image.mode}; 8 bits per channel are read")


def _orientation(image: Image.Image) -> int:
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF says nothing about the pixels
        return 1
    return found if isinstance(found, int) else 1


def _damaged(error: Exception) -> ImageRejectedError:
    if "truncated" in str(error).lower():
        return ImageRejectedError("image_truncated", "truncated: pixels are missing at its end")
    return ImageRejectedError("image_damaged", "damaged image data")
