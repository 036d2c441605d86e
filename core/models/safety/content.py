"""What a file is, by its content; its name must agree."""

import re
from enum import StrEnum
from pathlib import PurePosixPath

from core.models.safety.refusals import SAVE_WEIGHTS, Subject


class Container(StrEnum):
    """File formats of checkpoints."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "torch-zip"
    TORCH_LEGACY = "torch-legacy"


#: Protocol 2, then the long 0x1950a86a20f9469cfc6c: how every torch.save file before 1.6 begins.
TORCH_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_NUMBER = TORCH_LEGACY_MAGIC[2:]
_ZIP_STARTS = (b"PK\x03\x04", b"PK\x05\x06")
_ZIP_TAIL_BYTES = 22 + 65_535

_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".th", ".pth.tar", ".pt.tar"})
SUFFIXES = {
    Container.SAFETENSORS: frozenset({".safetensors"}),
    Container.TORCH_ZIP: _TORCH_SUFFIXES,
    Container.TORCH_LEGACY: _TORCH_SUFFIXES,
}

#: (offset, magic, name) of formats that are refused by name.
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)"),
    (512, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras .h5)"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"ggjt", "a GGML file"),
    (0, b"lmgg", "a GGML file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"\xfd7zXZ\x00", "an xz file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstandard file"),
    (0, b"\x04\x22\x4d\x18", "an lz4 file"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"\x93NUMPY", "a NumPy file (npy)"),
    (4, b"TFL3", "a TensorFlow Lite file"),
    (257, b"ustar", "a tar archive, perhaps of torch before 0.1.10"),
    (0, b"\x7fELF", "an ELF program"),
    (0, b"MZ", "a Windows program"),
    (0, b"\xca\xfe\xba\xbe", "a Mach-O program or Java class"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O program"),
    (0, b"#!", "a script"),
    (0, b"%PDF", "a PDF file"),
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (0, b"RIFF", "a RIFF file (WebP, wave)"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (0, b"<!DOCTYPE html", "a web page, perhaps an error message"),
    (0, b"<?xml", "an XML file"),
    (4, b"ET12", "an ExecuTorch program"),
    (0, b"<html", "a web page, perhaps an error message"),
)
#: Protocol buffers have no magic: how they begin, and words one of which is near.
_PROTOBUFS: tuple[tuple[bytes, tuple[bytes, ...], str], ...] = (
    (b"\x08", (b"onnx", b"pytorch", b"torch", b"ai.graphcore"), "an ONNX file"),
    (b"\x08\x01\x12", (b"serve", b"tensorflow", b"tags", b"Const", b"Var", b"NoOp"), "a TensorFlow SavedModel"),
    (b"\x08", (b"\x12", b"\x3a"), "an ONNX file or other protocol buffer"),
    (b"\x0a", (b"Placeholder", b"Const", b"NoOp", b"Variable", b"tensorflow"), "a TensorFlow graph"),
)
_HAND_WRITTEN = re.compile(rb"\(*[ci][A-Za-z_][\w.]*\r?\n[A-Za-z_][\w.]*\r?\n")


def file_suffix(filename: str) -> str:
    """The extension, lower case; `.pth.tar` counts as one."""
    name = PurePosixPath(filename.replace("\\", "/")).name.lower()
    double = "".join(PurePosixPath(name).suffixes[-2:])
    return double if double in _TORCH_SUFFIXES else PurePosixPath(name).suffix


def detect(data: memoryview, subject: Subject) -> Container:
    """The container of a file that is not empty. A name without an extension says nothing, so nothing contradicts.

    Raises:
        InvalidInputError: `invalid_checkpoint_extension`: the name says something else.
        UnsupportedError: `unsupported_format`: another format, by name.
        UnsafeError: `unsafe_archive_surplus`: a zip archive behind something else.
    """
    container = _by_content(data, subject)
    suffix = file_suffix(subject.name)
    if suffix and suffix not in SUFFIXES[container]:
        raise subject.invalid(
            "invalid_checkpoint_extension",
            f"The content is {container.value}, but the name ends in {suffix[:20]!r}.",
            f"Name it {' or '.join(sorted(SUFFIXES[container]))}.",
        )
    return container


def is_bare_pickle(data: memoryview) -> bool:
    """Whether it begins like a pickle of protocol 2 to 5, or like the hand-written ones of protocol 0.

    A safetensors file whose header is 640 bytes long begins so too, and goes on with zeros, which are no opcode.
    """
    head = bytes(data[:1024])
    if head[2:8] == bytes(6):
        return False
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return _LEGACY_NUMBER not in head[:32]
    return _HAND_WRITTEN.match(head) is not None


def _by_content(data: memoryview, subject: Subject) -> Container:
    head = bytes(data[:1024])
    if head.startswith(TORCH_LEGACY_MAGIC) or (head[:1] == b"\x80" and _LEGACY_NUMBER in head[:32]):
        return Container.TORCH_LEGACY
    if head.startswith(_ZIP_STARTS):
        return Container.TORCH_ZIP
    if _is_safetensors(head, len(data)):
        return Container.SAFETENSORS
    if _ends_as_zip(data):
        raise subject.unsafe(
            "unsafe_archive_surplus",
            "There is something in front of a zip archive: the file is two things at once.",
        )
    for offset, magic, name in _REFUSED:
        if head[offset : offset + len(magic)] == magic:
            raise _foreign(name, subject)
    for start, words, name in _PROTOBUFS:
        if head.startswith(start) and any(word in head for word in words):
            raise _foreign(name, subject)
    if _is_msgpack(head):
        raise _foreign("a msgpack file (Flax)", subject)
    if head[:1] in (b"{", b"["):
        raise _foreign("a JSON file", subject)
    raise subject.unsupported("unsupported_format", "The content is no checkpoint format known here.")


def _foreign(name: str, subject: Subject) -> Exception:
    return subject.unsupported("unsupported_format", f"This is {name}, not a checkpoint.", SAVE_WEIGHTS)


def _ends_as_zip(data: memoryview) -> bool:
    """Whether readers of zip archives, which begin at the end, would find one."""
    tail = bytes(data[-_ZIP_TAIL_BYTES:])
    at = tail.rfind(_ZIP_STARTS[1])
    return at >= 0 and at + 22 + int.from_bytes(tail[at + 20 : at + 22], "little") == len(tail)


def _is_safetensors(head: bytes, size: int) -> bool:
    """Eight bytes of a length that could be one, then an object."""
    return len(head) >= 10 and head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") < max(size, 1 << 40)


def _is_msgpack(head: bytes) -> bool:
    """A map whose first key is a short text."""
    if 0x80 < head[0] <= 0x8F:
        rest = head[1:]
    elif head[0] in (0xDE, 0xDF):
        rest = head[3 if head[0] == 0xDE else 5 :]
    else:
        return False
    length = rest[0] & 0x1F if rest and 0xA0 < rest[0] <= 0xBF else 0
    return length > 0 and rest[1 : 1 + length].isascii() and rest[1 : 1 + length].decode("ascii").isprintable()
