"""Image files by hand: what no encoder would write."""

import io
import struct
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (16, 16), **options: Any) -> bytes:
    """A picture of noise, as Pillow writes it. `size` is (width, height)."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def animated(kind: str) -> bytes:
    """Three frames."""
    frames = [Image.new("RGB", (16, 16), (80 * i, 0, 0)) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes, crc: int | None = None) -> bytes:
    """One chunk of a PNG."""
    return (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data) if crc is None else crc)
    )


def png_header(width: int, height: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    """The chunk IHDR."""
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def png_of(chunks: Iterable[bytes]) -> bytes:
    """A PNG of these chunks, with its end."""
    return PNG_MAGIC + b"".join(chunks) + chunk(b"IEND", b"")


def png_pixels(width: int, height: int, channels: int = 3) -> bytes:
    """The chunk IDAT of a black picture."""
    return chunk(b"IDAT", zlib.compress(bytes((width * channels + 1) * height), 9))


def segment(marker: int, data: bytes) -> bytes:
    """One segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def jpeg_frame(marker: int, width: int, height: int, depth: int = 8) -> bytes:
    """A frame header of one component."""
    return segment(marker, struct.pack(">BHHB", depth, height, width, 1) + b"\x01\x11\x00")


def jpeg_with(jpeg: bytes, *segments: bytes) -> bytes:
    """A JPEG with segments put right behind its start."""
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def riff(kind: bytes, data: bytes) -> bytes:
    """One chunk of a RIFF file."""
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def webp_of(*chunks: bytes) -> bytes:
    """A WEBP of these chunks."""
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width: int, height: int, flags: int = 0) -> bytes:
    """The chunk VP8X."""
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return riff(b"VP8X", bytes([flags, 0, 0, 0]) + sides)
