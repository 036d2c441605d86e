"""Which image files are decoded: told from their structure alone, before a decoder sees them.

An image file holds one PNG, JPEG or WEBP picture and nothing else: no second frame, nothing behind its end, no more
pixels than a reference image needs, and the name it deserves. The walk over chunks and segments is ours.
"""

import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

from core.data.rejects import ImageRejectedError

MAX_PIXELS = 25_000_000
#: Passes over a progressive JPEG: each costs as much as the whole picture. Cameras and encoders write about ten.
MAX_SCANS = 64

PNG, JPEG, WEBP = "PNG", "JPEG", "WEBP"
SUFFIXES = {".png": PNG, ".jpg": JPEG, ".jpeg": JPEG, ".webp": WEBP}

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_OTHERS = (
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"8BPS", "Photoshop"),
    (b"\0\0\1\0", "an icon"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"%PDF", "PDF"),
    (b"%!PS", "PostScript"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<!DOCTYPE", "HTML"),
    (b"<html", "HTML"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "gzip"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"#!", "a script"),
    (b"P5", "PNM"),
    (b"P6", "PNM"),
    (b"v/1\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"\x93NUMPY", "NumPy"),
)
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
#: Passes of an interlaced PNG: first column and row, steps.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHUNK = 1 << 20
# Frame headers of JPEG: baseline, extended, progressive. The others (lossless, hierarchical, arithmetic) are not read.
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2}
_JPEG_OTHER_FRAMES = set(range(0xC3, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_END_OF_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, slots=True)
class Header:
    """What the structure of an image file says: its format and size in pixels, before any rotation."""

    format: str
    width: int
    height: int


def check_image(content: bytes, name: str) -> Header:
    """The header of an image file that may be decoded.

    Args:
        name: what it is called; the ending must agree with the content.

    Raises:
        ImageRejectedError: `image_empty`, `image_format`, `image_extension`, `image_damaged`, `image_truncated`,
            `image_trailing` (something behind its end), `image_frames`, `image_depth`, `image_pixels`.
    """
    if not content:
        raise ImageRejectedError("image_empty", "the file is empty")
    found = _format(content)
    wanted = SUFFIXES.get(PurePosixPath(name).suffix.lower())
    if wanted is None:
        raise ImageRejectedError("image_extension", f"not named as PNG, JPEG or WEBP, though it is {found}")
    if wanted != found:
        raise ImageRejectedError("image_extension", f"named as {wanted}, but its content is {found}")
    try:
        header = {PNG: _png, JPEG: _jpeg, WEBP: _webp}[found](content)
    except (struct.error, IndexError):
        raise ImageRejectedError("image_truncated", "truncated: it ends in the middle of its header") from None
    return _plausible(header)


def _plausible(header: Header) -> Header:
    if header.width == 0 or header.height == 0:
        raise ImageRejectedError("image_damaged", f"{header.width} x {header.height} pixels is no picture")
    if header.width * header.height > MAX_PIXELS:
        raise ImageRejectedError(
            "image_pixels", f"{header.width} x {header.height} pixels are too many; at most {MAX_PIXELS}"
        )
    return header


def magic_of(content: bytes) -> str | None:
    """The format that a file begins like; None if that is none of the three."""
    if content.startswith(_PNG_MAGIC):
        return PNG
    if content.startswith(b"\xff\xd8\xff"):
        return JPEG
    return WEBP if content[:4] == b"RIFF" and content[8:12] == b"WEBP" else None


def _format(content: bytes) -> str:
    known = magic_of(content)
    if known is not None:
        return known
    if content[4:8] == b"ftyp":
        brand = content[8:12].decode("ascii", "replace")
        found: str | None = "HEIF or AVIF" if brand in ("heic", "heix", "mif1", "avif", "avis", "msf1") else "a video"
    else:
        start = content[:16].lstrip()
        found = next((what for magic, what in _OTHERS if start.startswith(magic) or content.startswith(magic)), None)
    if found is None:
        raise ImageRejectedError("image_format", "its content is not PNG, JPEG or WEBP")
    raise ImageRejectedError("image_format", f"its content is {found}, not PNG, JPEG or WEBP")


def _png(content: bytes) -> Header:
    """Chunks: length, type, data, CRC. IHDR is first, IEND last."""
    at, fields = len(_PNG_MAGIC), None
    data: list[memoryview] = []
    while True:
        length, kind = struct.unpack_from(">I4s", content, at)
        if fields is None and kind != b"IHDR":
            raise ImageRejectedError("image_damaged", "damaged: the PNG does not begin with its header")
        if length > len(content) - at - 12:
            raise _truncated("its last chunk is cut off")
        if kind == b"IHDR":
            if fields is not None or length != 13:
                raise ImageRejectedError("image_damaged", "damaged: the PNG has no proper header")
            fields = _PngHeader._make(struct.unpack_from(">IIBBBBB", content, at + 8))
        elif kind == b"acTL":
            (frames,) = struct.unpack_from(">I", content, at + 8)
            raise ImageRejectedError("image_frames", f"{frames} frames; one is expected")
        elif kind == b"IDAT":
            data.append(memoryview(content)[at + 8 : at + 8 + length])
        at += length + 12
        if kind == b"IEND":
            break
        if at == len(content):
            raise _truncated("it has no end")
    _nothing_behind(content, at)
    if not data or fields is None:
        raise ImageRejectedError("image_damaged", "damaged: the PNG holds no pixels")
    if fields.depth == 16:
        raise ImageRejectedError("image_depth", "16 bits per channel; at most 8 bits are read")
    header = _plausible(Header(PNG, fields.width, fields.height))
    _check_png_data(data, _png_bytes(fields))
    return header


class _PngHeader(NamedTuple):
    width: int
    height: int
    depth: int
    colour: int
    compression: int
    filter: int
    interlaced: int


def _png_bytes(fields: _PngHeader) -> int:
    """How much the pixel data of a PNG unpack to: each row has a byte for its filter."""
    channels = _PNG_CHANNELS.get(fields.colour)
    if channels is None or fields.interlaced > 1:
        raise ImageRejectedError("image_damaged", "damaged: a kind of PNG that does not exist")
    total = 0
    for left, top, right, down in _ADAM7 if fields.interlaced else ((0, 0, 1, 1),):
        width = -(-(fields.width - left) // right)
        height = -(-(fields.height - top) // down)
        if width > 0 and height > 0:
            total += height * (1 + -(-width * channels * fields.depth // 8))
    return total


def _check_png_data(parts: list[memoryview], expected: int) -> None:
    """Pixels that are missing or do not add up: Pillow would paint them black and say nothing."""
    engine, total = zlib.decompressobj(), 0
    try:
        for part in parts:
            rest: bytes | memoryview = part
            while rest and not engine.eof and total <= expected:
                total += len(engine.decompress(rest, _CHUNK))
                rest = engine.unconsumed_tail
    except zlib.error:
        raise ImageRejectedError("image_damaged", "damaged: its packed pixels cannot be unpacked") from None
    if total < expected:
        raise _truncated(f"its pixels are {total} of {expected} bytes")


def _jpeg(content: bytes) -> Header:
    """Segments: marker, length, data; after a start of scan coded data until the next marker."""
    at, header, scans = 2, None, 0
    while True:
        while content[at : at + 2] == b"\xff\xff":  # fill bytes
            at += 1
        if at >= len(content) - 1:
            raise _truncated("it has no end")
        if content[at] != 0xFF:
            raise ImageRejectedError("image_damaged", "damaged: the JPEG's segments do not follow each other")
        marker = content[at + 1]
        at += 2
        if marker == 0xD9:
            break
        if marker == 0xD8 or marker == 0x01 or 0xD0 <= marker <= 0xD7:
            raise ImageRejectedError("image_damaged", "damaged: a JPEG marker where none may be")
        (length,) = struct.unpack_from(">H", content, at)
        if length < 2:
            raise ImageRejectedError("image_damaged", "damaged: a JPEG segment without length")
        if at + length > len(content):
            raise _truncated("its last segment is cut off")
        if marker in _JPEG_OTHER_FRAMES:
            raise ImageRejectedError("image_format", "a lossless, hierarchical or arithmetic JPEG, which is not read")
        if marker in _JPEG_FRAMES:
            if header is not None:
                raise ImageRejectedError("image_frames", "two JPEG frames; one is expected")
            depth, height, width = struct.unpack_from(">BHH", content, at + 2)
            if depth != 8:
                raise ImageRejectedError("image_depth", f"{depth} bits per channel; 8 bits are read")
            header = Header(JPEG, width, height)
        at += length
        if marker == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise ImageRejectedError("image_scans", f"more than {MAX_SCANS} scans in one JPEG")
            found = _JPEG_END_OF_SCAN.search(content, at)
            if found is None:
                raise _truncated("it has no end")
            at = found.start()
    if content[at : at + 3] == b"\xff\xd8\xff":
        raise ImageRejectedError("image_frames", "a second picture behind the first; one is expected")
    if content[at:].strip(b"\0"):  # zeros are how some cameras fill the last block
        _nothing_behind(content, at)
    if header is None or scans == 0:
        raise ImageRejectedError("image_damaged", "damaged: the JPEG holds no picture")
    return header


def _webp(content: bytes) -> Header:
    """RIFF chunks: type, length (little endian), data, padded to even lengths."""
    (size,) = struct.unpack_from("<I", content, 4)
    if size + 8 > len(content):
        raise _truncated(f"{len(content)} of {size + 8} bytes")
    _nothing_behind(content, size + 8)
    at, header = 12, None
    canvas: tuple[int, int] | None = None
    while at < len(content):
        kind, length = struct.unpack_from("<4sI", content, at)
        data = at + 8
        if data + length > len(content):
            raise _truncated("its last chunk is cut off")
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and content[data] & 0x02):
            raise ImageRejectedError("image_frames", "an animation; one frame is expected")
        if kind == b"VP8X":
            sides = (
                int.from_bytes(content[data + 4 : data + 7], "little"),
                int.from_bytes(content[data + 7 : data + 10], "little"),
            )
            canvas = sides[0] + 1, sides[1] + 1
        elif kind in (b"VP8 ", b"VP8L"):
            if header is not None:
                raise ImageRejectedError("image_frames", "two pictures; one is expected")
            header = _webp_picture(content, data, lossless=kind == b"VP8L")
        at = data + length + (length & 1)
    if header is None:
        raise ImageRejectedError("image_damaged", "damaged: the WEBP holds no picture")
    if canvas is not None and canvas != (header.width, header.height):
        raise ImageRejectedError("image_damaged", "damaged: two sizes in one WEBP")
    return header


def _webp_picture(content: bytes, at: int, *, lossless: bool) -> Header:
    if lossless:
        signature, bits = struct.unpack_from("<BI", content, at)
        if signature != 0x2F:
            raise ImageRejectedError("image_damaged", "damaged: the WEBP's picture has no proper header")
        return Header(WEBP, (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    start, width, height = struct.unpack_from("<3sHH", content, at + 3)
    if start != b"\x9d\x01\x2a":
        raise ImageRejectedError("image_damaged", "damaged: the WEBP's picture has no proper header")
    return Header(WEBP, width & 0x3FFF, height & 0x3FFF)


def _nothing_behind(content: bytes, end: int) -> None:
    if end < len(content):
        raise ImageRejectedError("image_trailing", f"{len(content) - end} bytes behind the end of the picture")


def _truncated(how: str) -> ImageRejectedError:
    return ImageRejectedError("image_truncated", f"truncated: {how}")
