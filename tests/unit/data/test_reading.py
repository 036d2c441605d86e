"""Archives and folders of images."""

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from core.data.reading import DecodedReference, read_reference
from core.errors import InvalidInputError
from tests.support.checkpoints import png, reference_zip, zip_of


def _read(
    path: Path, channels: int = 3, num_classes: int = 10, size: tuple[int, int] | None = None
) -> DecodedReference:
    return read_reference(
        path,
        num_classes=num_classes,
        channels=channels,
        choose_size=lambda native: size or native or (32, 32),
        on_progress=lambda fraction: None,
    )


def test_zip_and_folder_give_the_same(tmp_path: Path) -> None:
    archive = reference_zip(tmp_path / "r.zip")
    with zipfile.ZipFile(archive) as opened:
        for name in opened.namelist():
            (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "folder" / name).write_bytes(opened.read(name))
    one, other = _read(archive), _read(tmp_path / "folder")
    assert torch.equal(one.pixels, other.pixels)
    assert one.labels is not None
    assert other.labels is not None
    assert torch.equal(one.labels, other.labels)
    assert one.report == other.report
    assert one.report["native_size"] == [32, 32]


def test_pixels_are_the_images(tmp_path: Path) -> None:
    files = {f"{i}.png": png(i) for i in range(10)}
    decoded = _read(zip_of(files, tmp_path / "r.zip"))
    expected = np.array(Image.open(io.BytesIO(files["3.png"])))
    assert torch.equal(decoded.pixels[3], torch.from_numpy(expected).permute(2, 0, 1))
    assert decoded.pixels.dtype == torch.uint8
    assert decoded.labels is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_formats_and_modes(kind: str, mode: str, tmp_path: Path) -> None:
    files = {f"{i}.{kind.lower()}": png(i, mode=mode, kind=kind) for i in range(10)}
    path = zip_of(files, tmp_path / "r.zip")
    assert _read(path, channels=1).pixels.shape == (10, 1, 32, 32)
    assert _read(path, channels=3).pixels.shape == (10, 3, 32, 32)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA", "1"])
def test_other_modes_are_converted(mode: str, tmp_path: Path) -> None:
    path = zip_of({f"{i}.png": png(i, mode=mode) for i in range(10)}, tmp_path / "r.zip")
    assert _read(path).pixels.shape == (10, 3, 32, 32)


def test_resizing_keeps_the_proportions(tmp_path: Path) -> None:
    wide = Image.new("RGB", (64, 32), (200, 0, 0))
    wide.paste((0, 0, 200), (16, 0, 48, 32))  # the middle square is blue
    buffer = io.BytesIO()
    wide.save(buffer, "PNG")
    path = zip_of({f"{i}.png": buffer.getvalue() for i in range(10)}, tmp_path / "r.zip")
    pixels = _read(path, size=(16, 16)).pixels.float()
    assert pixels[0, 2, 4:12, 4:12].mean() > 180
    assert pixels[0, 0, 4:12, 4:12].mean() < 20


def test_clutter_is_ignored(tmp_path: Path) -> None:
    files = {f"set/{i % 2}/{i}.png": png(i) for i in range(10)}
    files |= {"__MACOSX/set/0/._0.png": b"x", "set/.DS_Store": b"x", "set/0/.hidden.png": b"x", "set/Thumbs.db": b"x"}
    decoded = _read(zip_of(files, tmp_path / "r.zip"))
    assert len(decoded.pixels) == 10
    assert decoded.report["rejected"] == []


REJECTS = {
    "garbage.png": (b"no image", "not PNG"),
    "cut.png": (png(0)[:-40], "truncated"),
    "notes.txt": (b"hello", "not PNG"),
}


@pytest.mark.parametrize("name", REJECTS)
def test_every_reject_has_its_reason(name: str, tmp_path: Path) -> None:
    content, reason = REJECTS[name]
    files = {f"{i % 2}/{i}.png": png(i) for i in range(10)} | {f"1/{name}": content}
    decoded = _read(zip_of(files, tmp_path / "r.zip"))
    assert len(decoded.pixels) == 10
    assert decoded.labels is not None
    assert decoded.labels.tolist() == [0] * 5 + [1] * 5
    (told,) = decoded.report["rejected"]
    assert told.startswith(f"1/{name}: ")
    assert reason in told
    assert decoded.report["rejected_total"] == 1
    assert decoded.report["images"] == 11
    assert decoded.report["images_used"] == 10


def test_too_few_images(tmp_path: Path) -> None:
    files = {f"{i}.png": png(i) for i in range(9)} | {"bad.png": b"x"}
    with pytest.raises(InvalidInputError) as caught:
        _read(zip_of(files, tmp_path / "r.zip"))
    assert caught.value.code == "reference_too_small"
    assert "bad.png" in caught.value.detail


@pytest.mark.parametrize("content", [b"", b"hello", b"\x1f\x8b" + b"\0" * 99], ids=["empty", "text", "gzip"])
def test_no_archive(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "r.zip").write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        _read(tmp_path / "r.zip")
    assert caught.value.code == "unsupported_reference_format"


@pytest.mark.parametrize("keep", [0.3, 0.9, 0.999])
def test_a_truncated_archive(keep: float, tmp_path: Path) -> None:
    path = reference_zip(tmp_path / "r.zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InvalidInputError) as caught:
        _read(path)
    assert caught.value.code == "invalid_archive"


def test_a_damaged_member_is_one_reject(tmp_path: Path) -> None:
    path = tmp_path / "r.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i in range(11):
            archive.writestr(f"{i:02}.png", png(i))
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF  # in the data of the first member: its checksum no longer holds
    path.write_bytes(content)
    decoded = _read(path)
    assert len(decoded.pixels) == 10
    assert decoded.report["rejected"][0].startswith("00.png: ")


@pytest.mark.parametrize("name", ["../a.png", "/etc/a.png", "x/../../a.png", "C:/a.png", "a\\b.png"])
def test_names_that_lead_outside(name: str, tmp_path: Path) -> None:
    files = {f"{i}.png": png(i) for i in range(10)} | {name: png(0)}
    with pytest.raises(InvalidInputError) as caught:
        _read(zip_of(files, tmp_path / "r.zip"))
    assert caught.value.code == "unsafe_archive_paths"
    assert list(tmp_path.iterdir()) == [tmp_path / "r.zip"]


def test_links_are_refused_in_archives_and_skipped_in_folders(tmp_path: Path) -> None:
    path = reference_zip(tmp_path / "r.zip")
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("0/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(InvalidInputError, match="unsafe_archive_links"):
        _read(path)

    folder = tmp_path / "folder"
    folder.mkdir()
    for i in range(10):
        (folder / f"{i}.png").write_bytes(png(i))
    (folder / "link.png").symlink_to(folder / "0.png")
    assert len(_read(folder).pixels) == 10


def test_the_size_is_asked_for_once_with_the_images_own(tmp_path: Path) -> None:
    asked: list[Any] = []

    def choose(native: tuple[int, int] | None) -> tuple[int, int]:
        asked.append(native)
        return (8, 8)

    files = {f"{i}.png": png(i, side=20 + i) for i in range(10)}
    decoded = read_reference(
        zip_of(files, tmp_path / "r.zip"), num_classes=2, channels=3, choose_size=choose, on_progress=lambda _: None
    )
    assert asked == [None]
    assert decoded.pixels.shape[2:] == (8, 8)
