"""Reference sets in one file: tar archives of the kind of webdataset, and Parquet files."""

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from core.data import parquet
from core.data.checking import check_reference
from core.data.members import open_members
from core.data.reading import DecodedReference, read_pairs, read_reference
from core.errors import AssayError, InvalidInputError, UnsafeError, UnsupportedError
from tests.support.archives import parquet_of, tar_of
from tests.support.checkpoints import png, zip_of

PAIRS = {f"{i:04}.png": png(i) for i in range(12)} | {f"{i:04}.txt": b"picture %d" % i for i in range(12)}
COMMON: dict[str, Any] = {
    "channels": 3,
    "choose_size": lambda native: native or (32, 32),
    "on_progress": lambda _: None,
}


def _pairs(path: Path) -> DecodedReference:
    return read_pairs(path, **COMMON)


def _same(one: DecodedReference, other: DecodedReference) -> bool:
    return bool(one.pixels.equal(other.pixels)) and one.captions == other.captions


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("prefix", ["", "./", "shard/", "long/" * 25 + "x" * 120 + "/", "größe/" + "y" * 90 + "/"])
def test_a_tar_archive_is_read_like_a_zip(kind: int, prefix: str, tmp_path: Path) -> None:
    if kind == tarfile.USTAR_FORMAT and len(prefix) > 100:
        prefix = "long/" * 20  # all that this kind can say
    files = {prefix + name: content for name, content in PAIRS.items()}
    decoded = _pairs(tar_of(files, tmp_path / "r.tar", kind))
    assert _same(decoded, _pairs(zip_of(PAIRS, tmp_path / "r.zip")))
    assert decoded.report["captioned"] == decoded.report["images"] == 12


def test_classes_of_a_tar_archive(tmp_path: Path) -> None:
    files = {f"{i}.png": png(i) for i in range(12)} | {f"{i}.cls": b"%d" % (i % 3) for i in range(11)}
    decoded = read_reference(tar_of(files, tmp_path / "r.tar"), num_classes=3, **COMMON)
    assert decoded.labels is not None
    assert len(decoded.labels) == 11
    assert decoded.report["rejected"] == ["11.png: no .cls of its name"]


def _link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo("evil.png")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


@pytest.mark.parametrize(
    ("member", "code"),
    [
        (_link(tarfile.SYMTYPE), "unsafe_archive_links"),
        (_link(tarfile.LNKTYPE), "unsafe_archive_links"),
        (_link(tarfile.CHRTYPE), "unsafe_archive_links"),
        (_link(tarfile.FIFOTYPE), "unsafe_archive_links"),
        (tarfile.TarInfo("../0000.png"), "unsafe_archive_paths"),
        (tarfile.TarInfo("/etc/0000.png"), "unsafe_archive_paths"),
        (tarfile.TarInfo("a\\b.png"), "unsafe_archive_paths"),
        (tarfile.TarInfo("0003.PNG"), "unsafe_archive_duplicates"),
    ],
    ids=lambda value: value.name if isinstance(value, tarfile.TarInfo) else value,
)
def test_a_tar_archive_that_leads_elsewhere(member: tarfile.TarInfo, code: str, tmp_path: Path) -> None:
    path = tar_of(PAIRS, tmp_path / "r.tar")
    with tarfile.open(path, "a") as archive:
        archive.addfile(member)
    with pytest.raises(UnsafeError) as caught:
        _pairs(path)
    assert caught.value.code == code


@pytest.mark.parametrize("cut", [1, 511, 512, 700, -1024, -10240])
def test_a_tar_archive_that_is_cut_off(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "r.tar"
    whole = tar_of(PAIRS, path).read_bytes()
    end = whole.rindex(b"picture 11") + 512
    path.write_bytes(whole[: cut if cut > 0 else end - 512 if cut == -1024 else end - 600])
    with pytest.raises(AssayError) as caught:
        _pairs(path)
    assert caught.value.code in ("invalid_archive", "unsupported_reference_format")


@pytest.mark.parametrize("at", [0, 124, 148, 156, 257])
def test_a_damaged_header(at: int, tmp_path: Path) -> None:
    path = tar_of(PAIRS, tmp_path / "r.tar", tarfile.USTAR_FORMAT)
    content = bytearray(path.read_bytes())
    content[at] ^= 0x55
    path.write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        _pairs(path)
    assert caught.value.code in ("invalid_archive", "unsupported_reference_format")


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_bytes_anywhere_in_a_tar_archive(kind: int, tmp_path: Path) -> None:
    """Headers and names with other bytes in them: an error of ours or members that can be read, and soon."""
    whole = tar_of({"x/" * 50 + name: content for name, content in PAIRS.items()}, tmp_path / "whole.tar", kind)
    random, path, codes = np.random.default_rng(kind), tmp_path / "r.tar", set[str]()
    for _ in range(150):
        content = bytearray(whole.read_bytes())
        header = int(random.integers(len(content) // 512)) * 512
        for at in random.integers(header, min(header + 512, len(content)), 4):
            content[at] = random.integers(256)
        # With a sum that is right again, what is behind it is looked at.
        block = content[header : header + 512]
        block[148:156] = b" " * 8
        content[header + 148 : header + 156] = b"%06o\0 " % sum(block)
        path.write_bytes(content)
        try:
            with open_members(path) as members:
                assert all(isinstance(members.read(name), bytes) for name in members.names)
        except AssayError as error:
            codes.add(error.code)
    assert "invalid_archive" in codes
    assert all(code.startswith(("invalid_", "unsafe_", "unsupported_")) for code in codes)


def test_a_packed_tar_archive_says_so(tmp_path: Path) -> None:
    path = tmp_path / "r.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(UnsupportedError, match="gzip"):
        _pairs(path)


def _hub_columns(count: int = 12) -> dict[str, Any]:
    return {
        "id": list(range(count)),
        "image": [{"bytes": png(i), "path": f"{i}.png"} for i in range(count)],
        "text": [f"picture {i}" for i in range(count)],
        "label": [i % 3 for i in range(count)],
    }


def test_a_parquet_file_is_read_like_a_zip(tmp_path: Path) -> None:
    path = parquet_of(_hub_columns(), tmp_path / "r.parquet")
    assert _same(_pairs(path), _pairs(zip_of(PAIRS, tmp_path / "r.zip")))
    facts = check_reference(path, lambda _: None)
    assert (facts["images"], facts["images_used"], facts["captioned"]) == (12, 12, 12)
    assert (facts["labelled"], facts["label_kind"], facts["classes_total"]) == (True, "index", 3)


@pytest.mark.parametrize(
    "columns",
    [
        {"jpg": [png(i) for i in range(12)], "caption": [[f"picture {i}", "another"] for i in range(12)]},
        {
            "photo": [{"bytes": png(i)} for i in range(12)],
            "prompt": pa.array([f"picture {i}" for i in range(12)]).cast(pa.large_string()),
        },
        {"bytes": pa.array([png(i) for i in range(12)], pa.large_binary()), "txt": [f"picture {i}" for i in range(12)]},
    ],
    ids=["bytes and lists", "an unusual name", "large"],
)
def test_columns_by_other_names(columns: dict[str, Any], tmp_path: Path) -> None:
    assert _same(_pairs(parquet_of(columns, tmp_path / "r.parquet")), _pairs(zip_of(PAIRS, tmp_path / "r.zip")))


def test_class_names_of_a_parquet_file(tmp_path: Path) -> None:
    features = {"label": {"names": ["cat", "dog", "traffic_light"], "_type": "ClassLabel"}}
    columns = {name: column for name, column in _hub_columns().items() if name != "text"}
    table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path = parquet_of({}, tmp_path / "empty.parquet").with_name("r.parquet")
    pa.parquet.write_table(table, path)
    decoded = _pairs(path)
    assert decoded.report["class_names"] == ["cat", "dog", "traffic light"]
    assert decoded.labels is not None
    assert decoded.labels.tolist() == [0, 1, 2] * 4
    classifier = read_reference(path, num_classes=3, **COMMON)
    assert classifier.labels is not None
    assert classifier.labels.tolist() == [0, 1, 2] * 4


def test_many_rows_are_thinned_out_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_ROWS", 20)
    path = parquet_of(_hub_columns(100), tmp_path / "r.parquet", row_group_size=7)
    decoded = _pairs(path)
    assert decoded.captions == tuple(f"picture {i}" for i in range(0, 100, 5))


def test_rows_that_are_not_used_are_told_by_their_number(tmp_path: Path) -> None:
    columns = _hub_columns(15)
    columns["image"][3] = None
    columns["image"][4] = {"bytes": b"GIF89a", "path": "x"}
    columns["text"][5] = "  "
    columns["text"][6] = None
    columns["label"][7] = -1
    facts = check_reference(parquet_of(columns, tmp_path / "r.parquet"), lambda _: None)
    told = {item["file"]: item["code"] for item in facts["rejected"]}
    assert told == {
        "row-0000003.png": "image_empty",
        "row-0000004.png": "image_format",
        "row-0000005.txt": "caption_empty",
        "row-0000006.txt": "caption_empty",
        "row-0000007.png": "label_missing",
    }


def test_a_parquet_file_without_images(tmp_path: Path) -> None:
    path = parquet_of({"url": ["https://example.org/1.png"] * 12, "text": ["x"] * 12}, tmp_path / "r.parquet")
    with pytest.raises(UnsupportedError, match=r"url \(string\)") as caught:
        _pairs(path)
    assert (caught.value.code, bool(caught.value.hint)) == ("unsupported_parquet", True)


def test_too_many_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "MAX_BYTES", 1000)
    with pytest.raises(InvalidInputError) as caught:
        _pairs(parquet_of(_hub_columns(), tmp_path / "r.parquet"))
    assert caught.value.code == "reference_too_large"


def test_a_damaged_parquet_file(tmp_path: Path) -> None:
    """Bytes anywhere in it: an error of ours, or an image that is not used; never another exception."""
    whole = parquet_of(_hub_columns(), tmp_path / "whole.parquet").read_bytes()
    path = tmp_path / "r.parquet"
    random = np.random.default_rng(0)
    refused: list[AssayError] = []
    for trial in range(120):
        content = bytearray(whole)
        if trial % 4 == 0:
            content = content[: random.integers(4, len(content))]
        for at in random.integers(max(4, len(content) - 2000), len(content), 3):
            content[at] = random.integers(256)
        path.write_bytes(content)
        try:
            with open_members(path) as members:
                assert all(isinstance(members.read(name), bytes) for name in members.names)
        except AssayError as error:
            refused.append(error)
    assert len(refused) > 60
    assert {error.code for error in refused} <= {"invalid_parquet", "unsupported_parquet"}
    assert all(error.hint for error in refused)
