"""Hostile and broken image files: each is left out with its code and the true reason, and the rest is used."""

import contextlib
import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from core.data import checking
from core.data.checking import check_reference
from core.data.image_rules import MAX_PIXELS
from core.data.images import decode, open_image
from core.data.rejects import ImageRejectedError
from core.errors import AssayError, InvalidInputError
from tests.support.checkpoints import png, zip_of
from tests.support.images import (
    animated,
    canvas,
    chunk,
    encoded,
    jpeg_frame,
    jpeg_with,
    png_header,
    png_of,
    png_pixels,
    riff,
    segment,
    webp_of,
)

PNG, JPEG, WEBP = encoded("PNG"), encoded("JPEG"), encoded("WEBP", lossless=True)
LOSSY = encoded("WEBP")


def _tiff_nan() -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), np.nan, dtype=np.float32)).save(buffer, "TIFF")
    return buffer.getvalue()


def _deep(kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(buffer, kind)
    return buffer.getvalue()


def _scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there `count` times: small on the disk, long to decode."""
    jpeg = encoded("JPEG", progressive=True)
    at = jpeg.rindex(b"\xff\xda")
    return jpeg[:at] + jpeg[at:-2] * count + jpeg[-2:]


def _mpo() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "MPO", save_all=True, append_images=[Image.new("RGB", (16, 16))])
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a", "b")
    return buffer.getvalue()


def _zeros() -> bytes:
    return zlib.compress(bytes(1 << 27), 9)


def _short_pixels() -> bytes:
    return png_of([png_header(64, 64), chunk(b"IDAT", zlib.compress(b"\0" * 1000))])


Case = tuple[str, Callable[[], bytes], str, str]
CASES: dict[str, Case] = {
    # sizes that only the header knows
    "huge PNG header": ("a.png", lambda: png_of([png_header(2**31 - 1, 2**31 - 1), png_pixels(1, 1)]), "image_pixels",
                        "2147483647 x 2147483647"),
    "PNG bomb": ("a.png", lambda: png_of([png_header(20_000, 20_000, 1, 0), png_pixels(2_500, 20_000, 1)]),
                 "image_pixels", "20000 x 20000"),
    "just too many pixels": ("a.png", lambda: png_of([png_header(5_000, 5_001, 1, 0), png_pixels(625, 5_001, 1)]),
                             "image_pixels", "25000000"),
    "huge JPEG header": ("a.jpg", lambda: JPEG.replace(struct.pack(">HH", 16, 16), b"\xff\xff\xff\xff", 1),
                         "image_pixels", "65535 x 65535"),
    "huge WEBP canvas": ("a.webp", lambda: webp_of(canvas(1 << 24, 1 << 24), LOSSY[12:]), "image_damaged", "two sizes"),
    "huge WEBP header": ("a.webp", lambda: webp_of(riff(b"VP8L", struct.pack("<BI", 0x2F, 0x0FFFFFFF) + bytes(9))),
                         "image_pixels", "16384 x 16384"),
    "no pixels": ("a.png", lambda: png_of([png_header(0, 16), png_pixels(1, 1)]), "image_damaged", "0 x 16"),
    "JPEG without height": ("a.jpg", lambda: JPEG.replace(struct.pack(">HH", 16, 16), b"\0\0\0\x10", 1),
                            "image_damaged", "16 x 0"),
    # more than one picture
    "APNG": ("a.png", lambda: animated("PNG"), "image_frames", "3 frames"),
    "animated WEBP": ("a.webp", lambda: animated("WEBP"), "image_frames", "animation"),
    "MPO": ("a.jpg", _mpo, "image_frames", "second picture"),
    "two WEBP pictures": ("a.webp", lambda: webp_of(LOSSY[12:], LOSSY[12:]), "image_frames", "two pictures"),
    "two JPEG frames": ("a.jpg", lambda: jpeg_with(JPEG, jpeg_frame(0xC0, 8, 8)), "image_frames", "two JPEG frames"),
    # not what they are called
    "GIF called PNG": ("a.png", lambda: encoded("GIF", "P"), "image_format", "GIF"),
    "animated GIF": ("a.gif.png", lambda: animated("GIF"), "image_format", "GIF"),
    "NaN TIFF called JPEG": ("a.jpg", _tiff_nan, "image_format", "TIFF"),
    "NaN TIFF": ("a.tiff", _tiff_nan, "image_extension", "not PNG"),
    "BMP called PNG": ("a.png", lambda: encoded("BMP"), "image_format", "BMP"),
    "JPEG 2000": ("a.jpg", lambda: b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 50, "image_format", "JPEG 2000"),
    "AVIF": ("a.webp", lambda: b"\0\0\0\x1cftypavif" + b"\0" * 50, "image_format", "AVIF"),
    "SVG with a script": ("a.png", lambda: b"<svg onload='x()'/>", "image_format", "SVG"),
    "HTML": ("a.jpg", lambda: b"\n  <html><script>x()</script>", "image_format", "HTML"),
    "a program": ("a.png", lambda: b"\x7fELF" + b"\0" * 99, "image_format", "program"),
    "a pickle": ("a.png", lambda: b"\x80\x04cos\nsystem\n.", "image_format", "pickle"),
    "PostScript": ("a.jpg", lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n", "image_format", "PostScript"),
    "PNG called JPEG": ("a.jpg", lambda: PNG, "image_extension", "named as JPEG, but its content is PNG"),
    "WEBP called PNG": ("a.PNG", lambda: WEBP, "image_extension", "named as PNG, but its content is WEBP"),
    "empty": ("a.png", lambda: b"", "image_empty", "empty"),
    "noise": ("a.png", lambda: bytes(range(256)) * 4, "image_format", "not PNG"),
    # more than a picture
    "PNG and zip": ("a.png", lambda: PNG + _zip(), "image_trailing", "behind the end"),
    "JPEG and zip": ("a.jpg", lambda: JPEG + _zip(), "image_trailing", "behind the end"),
    "JPEG and zip with its end": ("a.jpg", lambda: JPEG + _zip() + b"\xff\xd9", "image_trailing", "behind the end"),
    "WEBP and HTML": ("a.webp", lambda: WEBP + b"<script>x()</script>", "image_trailing", "20 bytes"),
    # cut off
    "PNG without end": ("a.png", lambda: PNG[:-12], "image_truncated", "no end"),
    "PNG cut in its pixels": ("a.png", lambda: PNG[:200], "image_truncated", "cut off"),
    "PNG cut in its header": ("a.png", lambda: PNG[:20], "image_truncated", "truncated"),
    "JPEG without end": ("a.jpg", lambda: JPEG[:-2], "image_truncated", "no end"),
    "JPEG cut in its header": ("a.jpg", lambda: JPEG[:100], "image_truncated", "truncated"),
    "WEBP cut": ("a.webp", lambda: WEBP[:-7], "image_truncated", "bytes"),
    "too few pixels": ("a.png", _short_pixels, "image_truncated", "truncated"),
    "PNG with whole but too few rows": ("a.png", lambda: png_of([png_header(4, 4), png_pixels(4, 3)]),
                                        "image_truncated", "39 of 52 bytes"),
    "interlaced PNG with too few rows": ("a.png", lambda: png_of([png_header(9, 9, interlaced=1), png_pixels(9, 9)]),
                                         "image_truncated", "252 of"),
    # damaged
    "PNG whose pixels do not add up": ("a.png", lambda: png_of([png_header(4, 4), chunk(b"IDAT", zlib.compress(
        bytes(52))[:-4] + b"abcd")]), "image_damaged", "damaged"),
    "wrong CRC": ("a.png", lambda: PNG[:29] + b"\0\0\0\0" + PNG[33:], "image_damaged", "damaged"),
    "PNG without header": ("a.png", lambda: png_of([png_pixels(1, 1)]), "image_damaged", "header"),
    "PNG with two headers": ("a.png", lambda: png_of([png_header(4, 4), png_header(9, 9), png_pixels(4, 4)]),
                             "image_damaged", "header"),
    "PNG without pixels": ("a.png", lambda: png_of([png_header(4, 4)]), "image_damaged", "no pixels"),
    "PNG chunk of 4 GiB": ("a.png", lambda: PNG[:33] + b"\xff\xff\xff\xffIDAT" + PNG[41:], "image_truncated",
                           "cut off"),
    "not deflate": ("a.png", lambda: png_of([png_header(4, 4), chunk(b"IDAT", b"not deflate")]), "image_damaged",
                    "damaged"),
    "JPEG with a hole": ("a.jpg", lambda: jpeg_with(JPEG, segment(0xFE, b"x"), bytes(3)), "image_damaged", "follow"),
    "JPEG segment without length": ("a.jpg", lambda: jpeg_with(JPEG, b"\xff\xe1\0\0"), "image_damaged", "length"),
    "JPEG without picture": ("a.jpg", lambda: b"\xff\xd8" + segment(0xE0, b"JFIF\0") + b"\xff\xd9", "image_damaged",
                             "no picture"),
    "WEBP without picture": ("a.webp", lambda: webp_of(riff(b"EXIF", b"x")), "image_damaged", "no picture"),
    # what no training code would read the same way
    "16-bit grey": ("a.png", _deep, "image_depth", "16 bits"),
    "16-bit RGB": ("a.png", lambda: png_of([png_header(4, 4, 16), png_pixels(8, 4)]), "image_depth", "16 bits"),
    "12-bit JPEG": ("a.jpg", lambda: b"\xff\xd8" + jpeg_frame(0xC1, 8, 8, 12) + b"\xff\xd9", "image_depth", "12 bits"),
    "lossless JPEG": ("a.jpg", lambda: b"\xff\xd8" + jpeg_frame(0xC3, 8, 8) + b"\xff\xd9", "image_format", "lossless"),
    "JPEG of 5000 scans": ("a.jpg", lambda: _scans(5_000), "image_scans", "more than 64 scans"),
    # bombs in what is not pixels
    "text bomb": ("a.png", lambda: png_of([png_header(4, 4), chunk(b"zTXt", b"k\0\0" + _zeros()), png_pixels(4, 4)]),
                  "image_damaged", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_it_is_left_out_and_told(case: str, tmp_path: Path) -> None:
    name, make, code, words = CASES[case]
    content = make()
    files = {f"{i}.png": png(i) for i in range(10)} | {name: content}
    began, memory = time.monotonic(), psutil.Process().memory_info().rss
    facts = check_reference(zip_of(files, tmp_path / "r.zip"), lambda _: None)
    assert time.monotonic() - began < 10
    assert psutil.Process().memory_info().rss - memory < 150e6
    assert facts["images_used"] == 10
    (reject,) = facts["rejected"]
    assert (reject["file"], reject["code"]) == (name, code), reject
    assert words in reject["reason"]


GOOD: dict[str, tuple[str, Callable[[], bytes]]] = {
    "grey": ("a.png", lambda: encoded("PNG", "L")),
    "one bit": ("a.png", lambda: encoded("PNG", "1")),
    "palette": ("a.png", lambda: encoded("PNG", "P")),
    "palette with transparency": ("a.png", lambda: encoded("PNG", "P", transparency=3)),
    "alpha": ("a.png", lambda: encoded("PNG", "RGBA")),
    "grey and alpha": ("a.png", lambda: encoded("PNG", "LA")),
    "inks": ("a.jpeg", lambda: encoded("JPEG", "CMYK")),
    "progressive": ("a.JPG", lambda: encoded("JPEG", progressive=True, size=(200, 100))),
    "with restarts": ("a.jpg", lambda: encoded("JPEG", restart_marker_blocks=2, size=(99, 50))),
    "padded with zeros": ("a.jpg", lambda: JPEG + bytes(512)),
    "with EXIF and a profile": ("a.jpg", lambda: encoded("JPEG", exif=_exif(6), icc_profile=b"x" * 200_000)),
    "damaged EXIF": ("a.jpg", lambda: jpeg_with(JPEG, segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff"))),
    "lossy": ("a.webp", lambda: LOSSY),
    "lossy with alpha": ("a.webp", lambda: encoded("WEBP", "RGBA")),
    "WEBP with EXIF": ("a.webp", lambda: encoded("WEBP", exif=_exif(6))),
    "25 million pixels": ("a.png", lambda: png_of([png_header(5_000, 5_000, 1, 0), png_pixels(625, 5_000, 1)])),
    "optimised": ("a.png", lambda: encoded("PNG", optimize=True)),
    "with text": ("a.png", lambda: png_of([png_header(4, 4), chunk(b"tEXt", b"k\0v"), png_pixels(4, 4)])),
}


def _exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize("case", GOOD)
def test_what_cameras_and_programs_write_is_read(case: str) -> None:
    name, make = GOOD[case]
    for mode in ("RGB", "L"):
        assert decode(open_image(make(), name), mode).mode == mode


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_as_exif_says(orientation: int) -> None:
    picture = Image.new("RGB", (24, 16), (200, 0, 0))
    picture.paste((0, 0, 200), (0, 0, 8, 8))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", exif=_exif(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(buffer.getvalue()))).convert("RGB")
    decoded = decode(open_image(buffer.getvalue(), "a.png"), "RGB")
    assert np.array_equal(np.array(decoded), np.array(expected))


def test_the_pixels_of_all_images_together_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of({f"{i}.png": png(i) for i in range(20)}, tmp_path / "r.zip")
    monkeypatch.setattr(checking, "MAX_TOTAL_PIXELS", 15 * 32 * 32)
    with pytest.raises(InvalidInputError, match="reference_too_large"):
        check_reference(path, lambda _: None)


def test_the_number_of_images_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of({f"{i}.png": png(i) for i in range(20)}, tmp_path / "r.zip")
    monkeypatch.setattr(checking, "MAX_IMAGES", 19)
    with pytest.raises(InvalidInputError, match="reference_too_large"):
        check_reference(path, lambda _: None)


def test_many_rejects_are_counted_and_some_are_shown(tmp_path: Path) -> None:
    files = {f"{i}.png": png(i) for i in range(10)} | {f"bad{i:03}.png": b"x" for i in range(150)}
    facts = check_reference(zip_of(files, tmp_path / "r.zip"), lambda _: None)
    assert (len(facts["rejected"]), facts["rejected_total"], facts["images_used"]) == (100, 150, 10)


def test_a_member_that_unpacks_to_more_than_it_says(tmp_path: Path) -> None:
    path = zip_of({f"{i}.png": png(i) for i in range(10)} | {"z.png": bytes(10 << 20)}, tmp_path / "r.zip")
    with pytest.raises(AssayError) as caught:
        check_reference(path, lambda _: None)
    assert caught.value.code == "unsafe_archive_bomb"


SEEDS = [PNG, JPEG, WEBP, LOSSY, encoded("JPEG", progressive=True), animated("PNG"), _mpo(), _deep()]


@given(seed=st.sampled_from(SEEDS), edits=st.lists(st.tuples(st.integers(0, 4000), st.binary(max_size=4)), max_size=6),
       cut=st.integers(0, 4000), name=st.sampled_from(["a.png", "a.jpg", "a.webp"]))  # fmt: skip
@settings(max_examples=400, deadline=None, derandomize=True)
def test_changed_images_are_read_or_left_out(seed: bytes, edits: list[tuple[int, bytes]], cut: int, name: str) -> None:
    """Nothing but ImageRejectedError comes out, and nothing larger than the limit."""
    content = bytearray(seed)
    for at, new in edits:
        content[at % len(content) : at % len(content) + len(new)] = new
    if cut < len(content) // 4:
        del content[-cut:]
    with contextlib.suppress(ImageRejectedError):
        decoded = decode(open_image(bytes(content), name), "RGB")
        assert decoded.width * decoded.height <= MAX_PIXELS
