"""Reads checkpoint files. Nothing in them is ever executed, and no failure is anything but a typed error."""

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from core.errors import AssayError, InvalidInputError, UnsafeError, UnsupportedError
from core.models.detect import TORCH_LEGACY_MAGIC, Container, detect
from core.models.pickles import check_globals
from core.models.tensor_checks import MAX_TENSORS

_AGAIN = "Compare the file's digest with the one at its source and upload it again."
_SAVE_WEIGHTS = "Save the weights alone: torch.save(model.state_dict(), 'model.pth'), or safetensors."
_MAX_MEMBERS = 50_000
_MAX_PICKLE_BYTES = 64 << 20
_MAX_HEADER_BYTES = 8 << 20
#: The end record of a zip archive, and how far from the end of the file it can begin.
_END_MAGIC, _END_RECORD_BYTES, _END_BYTES = b"PK\x05\x06", 22, 22 + 65_535
_LEGACY_PICKLES = 5  # magic number, protocol, system information, the object, storage keys


@dataclass(frozen=True, slots=True)
class RawCheckpoint:
    """What a file holds, before anybody looked for the weights in it.

    Attributes:
        container: the file format.
        content: for torch files whatever was saved; for safetensors a dict of tensors.
        metadata: safetensors metadata; empty otherwise.
        file_bytes: size of the file.
    """

    container: Container
    content: Any
    metadata: dict[str, str]
    file_bytes: int


def read_checkpoint(path: Path, filename: str) -> RawCheckpoint:
    """Reads the file at `path`, which its owner calls `filename`; tensors may be memory-mapped.

    Raises:
        InvalidInputError, UnsupportedError, UnsafeError: with the reason; nothing else.
    """
    if not path.is_file():
        raise InvalidInputError("invalid_checkpoint", "There is no such file.", "Name a checkpoint file.")
    try:
        container = detect(path, filename)
        size = path.stat().st_size
        match container:
            case Container.SAFETENSORS:
                content, metadata = _read_safetensors(path, size)
                return RawCheckpoint(container, content, metadata, size)
            case Container.TORCH_ZIP:
                return RawCheckpoint(container, _read_torch_zip(path), {}, size)
            case Container.TORCH_LEGACY:
                return RawCheckpoint(container, _read_torch_legacy(path), {}, size)
    except AssayError:
        raise
    except Exception as error:  # whatever a parser throws at hostile bytes is about the bytes
        raise InvalidInputError(
            "invalid_checkpoint", f"The file cannot be read ({type(error).__name__}): damaged or truncated.", _AGAIN
        ) from error


def _read_safetensors(path: Path, size: int) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(size - 8, _MAX_HEADER_BYTES):
            raise InvalidInputError(
                "invalid_checkpoint", "The safetensors header is longer than the file allows.", _AGAIN
            )
        header = json.loads(file.read(length))
    if len(header) > MAX_TENSORS + 1:
        raise UnsupportedError("unsupported_checkpoint_size", f"{len(header)} tensors; at most {MAX_TENSORS}.")
    for key, entry in header.items():
        if key != "__metadata__" and isinstance(entry, dict) and not _is_known_dtype(entry.get("dtype")):
            raise UnsupportedError(
                "unsupported_dtype",
                f"Tensor {key[:120]!r} has dtype {str(entry.get('dtype'))[:20]!r}.",
                "Convert the weights to float32 or float16.",
            )
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = [key for key in header if key != "__metadata__"]
            return {name: file.get_tensor(name) for name in names}, dict(file.metadata() or {})
    except SafetensorError as error:
        raise InvalidInputError("invalid_checkpoint", f"Not a valid safetensors file: {error}", _AGAIN) from error


def _is_known_dtype(name: object) -> bool:
    return name in {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}


def _read_torch_zip(path: Path) -> Any:
    _check_end(path)
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_check_archive(archive)) as stream:
            check_globals(stream, 1)
    except zipfile.BadZipFile as error:
        raise InvalidInputError("invalid_checkpoint", f"The zip archive is damaged: {error}.", _AGAIN) from error
    if path.suffix == ".safetensors":  # torch.load would go by the name of the path
        with path.open("rb") as file:
            return torch.load(file, weights_only=True, map_location="cpu")
    return torch.load(str(path), weights_only=True, map_location="cpu", mmap=True)


def _check_end(path: Path) -> None:
    """Refuses data or a comment behind the archive: two readers might see two archives."""
    with path.open("rb") as file:
        file.seek(-min(_END_BYTES, path.stat().st_size), 2)
        end = file.read()
    if _END_MAGIC not in end:
        raise InvalidInputError("invalid_checkpoint", "The zip archive has no end: it is truncated.", _AGAIN)
    if not end[-_END_RECORD_BYTES:].startswith(_END_MAGIC):
        raise UnsafeError("unsafe_archive", "There is something behind the end of the zip archive.", _SAVE_WEIGHTS)


def _check_archive(archive: zipfile.ZipFile) -> str:
    """The name of the one pickle of a torch.save archive; anything else is refused by name."""
    members = archive.infolist()
    names = [member.filename for member in members]
    if len(names) > _MAX_MEMBERS or len({name.casefold() for name in names}) != len(names):
        raise UnsafeError("unsafe_archive", "The zip archive has duplicate names or too many members.", _SAVE_WEIGHTS)
    inner = {name.partition("/")[2] for name in names}
    if "constants.pkl" in inner or any(name.startswith("code/") for name in inner):
        raise UnsupportedError(
            "unsupported_torchscript", "This is a TorchScript archive, which is code.", _SAVE_WEIGHTS
        )
    if any(name.startswith(".data/") and "modules" in name for name in inner):
        raise UnsupportedError(
            "unsupported_torch_package", "This is a torch.package archive, which is code.", _SAVE_WEIGHTS
        )
    if any(name.endswith(".npy") for name in names):
        raise UnsupportedError("unsupported_format", "This is a NumPy archive (npz).", _SAVE_WEIGHTS)
    if "model.weights.h5" in names:
        raise UnsupportedError("unsupported_format", "This is a Keras archive.", _SAVE_WEIGHTS)
    tops = {name.partition("/")[0] for name in names}
    pickles = [name for name in names if name.endswith(".pkl")]
    if len(tops) != 1 or pickles != [f"{next(iter(tops))}/data.pkl"]:
        raise UnsupportedError("unsupported_zip", "This zip archive was not written by torch.save.", _SAVE_WEIGHTS)
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise UnsafeError(
                "unsafe_archive", "Members are compressed or encrypted, which torch.save never does.", _SAVE_WEIGHTS
            )
    if archive.getinfo(pickles[0]).file_size > _MAX_PICKLE_BYTES:
        raise UnsupportedError("unsupported_checkpoint_size", "The pickle in the archive is too long.", _SAVE_WEIGHTS)
    return pickles[0]


def _read_torch_legacy(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(len(TORCH_LEGACY_MAGIC)) != TORCH_LEGACY_MAGIC:
            raise InvalidInputError("invalid_checkpoint", "Not a torch.save file.", _AGAIN)
        check_globals(file, _LEGACY_PICKLES - 1)
        file.seek(0)
        return torch.load(file, weights_only=True, map_location="cpu")
