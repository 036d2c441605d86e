"""What a file is, by its content; its name must agree."""

from enum import StrEnum
from pathlib import Path, PurePosixPath

from core.errors import InvalidInputError, UnsupportedError


class Container(StrEnum):
    """File formats of checkpoints."""

    SAFETENSORS = "safetensors"
    TORCH_ZIP = "torch-zip"
    TORCH_LEGACY = "torch-legacy"


#: protocol 2, then the long 0x1950a86a20f9469cfc6c: how every torch.save file before 1.6 begins.
TORCH_LEGACY_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_ZIP = b"PK\x03\x04"
_SAFETENSORS_HEADER_LIMIT = 8 << 20

_TORCH_SUFFIXES = frozenset({".pt", ".pth", ".bin", ".ckpt", ".th", ".pth.tar", ".pt.tar"})
SUFFIXES = {
    Container.SAFETENSORS: frozenset({".safetensors"}),
    Container.TORCH_ZIP: _TORCH_SUFFIXES,
    Container.TORCH_LEGACY: _TORCH_SUFFIXES,
}

_SAVE_WEIGHTS = "Save the weights alone: torch.save(model.state_dict(), 'model.pth'), or safetensors."
#: (offset, magic, name) of formats that are refused by name.
_REFUSED: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89HDF\r\n\x1a\n", "HDF5"),
    (0, b"GGUF", "GGUF"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"BZh", "bzip2"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"\x28\xb5\x2f\xfd", "zstandard"),
    (0, b"Rar!\x1a\x07", "RAR"),
    (0, b"\x93NUMPY", "NumPy"),
    (4, b"TFL3", "TensorFlow Lite"),
    (257, b"ustar", "tar"),
    (0, b"\x7fELF", "ELF"),
    (0, b"%PDF", "PDF"),
    (0, b"\x89PNG", "PNG image"),
    (0, b"\xff\xd8\xff", "JPEG image"),
)


def file_suffix(filename: str) -> str:
    """The extension, lower case; `.pth.tar` counts as one."""
    name = PurePosixPath(filename.replace("\\", "/")).name.lower()
    double = "".join(PurePosixPath(name).suffixes[-2:])
    return double if double in _TORCH_SUFFIXES else PurePosixPath(name).suffix


def detect(path: Path, filename: str) -> Container:
    """The container of the file at `path`, which its owner calls `filename`.

    Raises:
        InvalidInputError: empty, or the extension says something else.
        UnsupportedError: another format (`unsupported_format`).
    """
    size = path.stat().st_size
    if size == 0:
        raise InvalidInputError("invalid_checkpoint_empty", "The file is empty.", "Upload the checkpoint again.")
    with path.open("rb") as file:
        head = file.read(512)
    container = _by_content(head, size)
    suffix = file_suffix(filename)
    if suffix not in SUFFIXES[container]:
        raise InvalidInputError(
            "invalid_checkpoint_extension",
            f"The content is {container.value}, but the name ends in {suffix or 'no extension'!r}.",
            f"Name it {' or '.join(sorted(SUFFIXES[container]))}.",
        )
    return container


def _by_content(head: bytes, size: int) -> Container:
    if head.startswith(TORCH_LEGACY_MAGIC):
        return Container.TORCH_LEGACY
    if head.startswith(_ZIP):
        return Container.TORCH_ZIP
    header = int.from_bytes(head[:8], "little")
    if len(head) >= 10 and head[8:9] == b"{" and 2 <= header <= max(size, _SAFETENSORS_HEADER_LIMIT):
        return Container.SAFETENSORS
    for offset, magic, name in _REFUSED:
        if head[offset : offset + len(magic)] == magic:
            raise UnsupportedError("unsupported_format", f"This is a {name} file, not a checkpoint.", _SAVE_WEIGHTS)
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        raise UnsupportedError(
            "unsupported_format", "This is a bare Python pickle, not a file of torch.save.", _SAVE_WEIGHTS
        )
    if (head[:1] == b"\x08" and b"onnx" in head) or b"pytorch" in head[:64]:
        raise UnsupportedError("unsupported_format", "This is an ONNX file, not a checkpoint.", _SAVE_WEIGHTS)
    raise UnsupportedError("unsupported_format", "The content is no checkpoint format known here.", _SAVE_WEIGHTS)
