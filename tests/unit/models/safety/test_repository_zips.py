"""Archives of repositories: what ordinary programs pack is read, and unpacked member by member."""

import io
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from core.errors import InvalidInputError, UnsafeError, UnsupportedError
from core.models.safety.limits import Limits
from core.models.safety.zip_rules import copy_member, open_repository_zip
from core.models.safety.zip_structure import ZipMember
from tests.support.zip_builder import Entry, build_zip

FILES = {"config.json": b'{"a": 1}' * 50, "weights.bin": bytes(range(256)) * 99, "sub/é.txt": b"", "sub/one": b"x"}


def folder(root: Path) -> Path:
    for name, data in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def unpacked(path: Path, target: Path) -> dict[str, bytes]:
    target.mkdir()
    found = {}
    for number, member in enumerate(open_repository_zip(path)):
        copy_member(path, member, target / str(number))
        found[member.name] = (target / str(number)).read_bytes()
    return found


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_of_python(method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    assert unpacked(tmp_path / "a.zip", tmp_path / "out") == FILES


def test_with_folders_of_their_own(tmp_path: Path) -> None:
    path = shutil.make_archive(str(tmp_path / "a"), "zip", folder(tmp_path / "in"))
    assert unpacked(Path(path), tmp_path / "out") == FILES


def test_written_to_a_pipe(tmp_path: Path) -> None:
    class Pipe(io.RawIOBase):
        data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, chunk: object) -> int:
            self.data += bytes(chunk)  # type: ignore[call-overload]
            return len(bytes(chunk))  # type: ignore[call-overload]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:  # type: ignore[call-overload]
        for name, data in FILES.items():
            archive.writestr(name, data)
    (tmp_path / "a.zip").write_bytes(pipe.data)
    assert unpacked(tmp_path / "a.zip", tmp_path / "out") == FILES


@pytest.mark.skipif(shutil.which("zip") is None, reason="Info-ZIP is not installed")
@pytest.mark.parametrize("options", [["-r"], ["-r", "-0"], ["-r", "-X", "-D"]])
def test_of_info_zip(options: list[str], tmp_path: Path) -> None:
    subprocess.run(["zip", "-q", *options, "../a.zip", "."], cwd=folder(tmp_path / "in"), check=True)
    assert unpacked(tmp_path / "a.zip", tmp_path / "out") == FILES


def test_more_than_four_gigabytes_are_described_with_long_sizes(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive, archive.open("a", "w", force_zip64=True) as file:
        file.write(b"small")
    (tmp_path / "a.zip").write_bytes(buffer.getvalue())
    assert unpacked(tmp_path / "a.zip", tmp_path / "out") == {"a": b"small"}


def unpack_first(folder: Path) -> None:
    copy_member(folder / "a.zip", open_repository_zip(folder / "a.zip")[0], folder / "out")


LIES = {
    "longer than it says": (Entry("a", b"x" * 500, 8, size=400), UnsafeError, "unsafe_archive_bomb"),
    "shorter than it says": (Entry("a", b"x" * 300, 8, size=400), InvalidInputError, "invalid_archive"),
    "another CRC": (Entry("a", b"x" * 300, 8, crc=1), InvalidInputError, "invalid_archive"),
    "rubbish": (
        Entry("a", b"\xff" * 30, local={"method": 8}, method=8, packed=0),
        UnsafeError,
        "unsafe_archive_surplus",
    ),
}


@pytest.mark.parametrize("name", LIES)
def test_a_member_that_lies_leaves_nothing(name: str, tmp_path: Path) -> None:
    entry, kind, code = LIES[name]
    (tmp_path / "a.zip").write_bytes(build_zip([entry]))
    with pytest.raises(kind) as caught:
        unpack_first(tmp_path)
    assert caught.value.code == code
    assert not (tmp_path / "out").exists()


def test_packed_data_that_are_cut_off_or_go_on(tmp_path: Path) -> None:
    whole = Entry("a", b"abc" * 99, 8)
    packed = whole.packed_data
    for data, code in ((packed[:-2], "invalid_archive"), (packed + b"more", "unsafe_archive_surplus")):
        (tmp_path / "a").write_bytes(data)
        member = ZipMember("a", 8, 0, len(data), 297, 0, 0)
        with pytest.raises(InvalidInputError) as caught:
            copy_member(tmp_path / "a", member, tmp_path / "out")
        assert caught.value.code in (code, "invalid_archive")


def test_limits(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(build_zip([Entry(f"f{i}", b"x" * 100) for i in range(5)]))
    for limits in (Limits(members=4), Limits(unpacked_bytes=499)):
        with pytest.raises(UnsupportedError) as caught:
            open_repository_zip(tmp_path / "a.zip", limits)
        assert caught.value.code == "unsupported_archive_size"
    (tmp_path / "b.zip").write_bytes(build_zip([Entry("f", bytes(100_000), 8)]))
    with pytest.raises(UnsafeError) as bomb:
        open_repository_zip(tmp_path / "b.zip")
    assert bomb.value.code == "unsafe_archive_bomb"


def test_no_file_is_overwritten_or_followed(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(build_zip([Entry("f", b"new")]))
    (member,) = open_repository_zip(tmp_path / "a.zip")
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("target", "link"):
        with pytest.raises(OSError, match="exists"):
            copy_member(tmp_path / "a.zip", member, tmp_path / name)
    assert (tmp_path / "target").read_text() == "old"


@pytest.mark.parametrize("data", [b"", b"no zip", build_zip([]), build_zip([Entry("only/")])])
def test_no_files(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InvalidInputError) as caught:
        open_repository_zip(tmp_path / "a.zip", name="repo.zip")
    assert caught.value.code == "invalid_archive"
    assert "repo.zip" in caught.value.detail
