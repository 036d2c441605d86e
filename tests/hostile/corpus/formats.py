"""Files that are something else, or called something else (R2, R3)."""

import bz2
import gzip
import io
import lzma
import pickle
import struct
import tarfile

from safetensors.numpy import save as save_safetensors
from torch import ones

from tests.hostile.corpus.case import Case
from tests.hostile.corpus.pickles import legacy
from tests.support.pickle_builder import tensor, torch_zip

_FORMAT, _EXTENSION = "unsupported_format", "invalid_checkpoint_extension"
_TORCH = torch_zip({"w": tensor()})
_SAFE = save_safetensors({"w": ones(2, 2).numpy()})


def _tar(names: tuple[str, ...], **options: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", **options) as archive:  # type: ignore[call-overload]
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


CASES = [
    Case("nothing", b"", "invalid_checkpoint_empty", ("empty",)),
    Case("one byte", b"\x80", _FORMAT),
    Case("zeros", bytes(4096), _FORMAT),
    Case("noise", bytes((i * 197 + 31) % 251 for i in range(4096)), _FORMAT),
    Case("text", b"hello, I am no model\n" * 50, _FORMAT),
    Case("tar of old torch", _tar(("sys_info", "pickle", "tensors", "storages")), _FORMAT, ("tar",)),
    Case("tar", _tar(("../../evil",)), _FORMAT, ("tar",), "model.pth.tar"),
    Case("gzip", gzip.compress(_TORCH), _FORMAT, ("gzip",)),
    Case("gzip with its own extension", gzip.compress(_TORCH), _FORMAT, ("gzip",), "model.pth.gz"),
    Case("bzip2", bz2.compress(_TORCH), _FORMAT, ("bzip2",)),
    Case("xz", lzma.compress(_TORCH), _FORMAT, ("xz",)),
    Case("zstandard", b"\x28\xb5\x2f\xfd" + bytes(99), _FORMAT, ("zstandard",)),
    Case("7z", b"7z\xbc\xaf\x27\x1c" + bytes(99), _FORMAT, ("7z",)),
    Case("RAR", b"Rar!\x1a\x07\x01\x00" + bytes(99), _FORMAT, ("RAR",)),
    Case("npy", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', }" + bytes(99), _FORMAT, ("NumPy",)),
    Case("npy of objects", b"\x93NUMPY\x01\x00v\x00{'descr': '|O', }" + pickle.dumps([1]), _FORMAT, ("NumPy",)),
    Case("HDF5", b"\x89HDF\r\n\x1a\n" + bytes(999), _FORMAT, ("HDF5",), "model.h5"),
    Case("HDF5 behind a block", bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(99), _FORMAT, ("HDF5",)),
    Case("GGUF", b"GGUF\x03\0\0\0" + bytes(99), _FORMAT, ("GGUF",), "model.gguf"),
    Case("GGML", b"lmgg" + bytes(99), _FORMAT, ("GGML",)),
    Case("ONNX", b"\x08\x07\x12\x07pytorch\x1a\x052.1.0:\x80\x01" + bytes(99), _FORMAT, ("ONNX",), "model.onnx"),
    Case(
        "SavedModel",
        b"\x08\x01\x12\x99\x01\x0a\x20\x12\x05serve" + bytes(99),
        _FORMAT,
        ("SavedModel",),
        "saved_model.pb",
    ),
    Case("a TensorFlow graph", b"\x0a\x20\x0a\x05input\x12\x0bPlaceholder" + bytes(99), _FORMAT, ("TensorFlow",)),
    Case("TensorFlow Lite", b"\x1c\0\0\0TFL3" + bytes(99), _FORMAT, ("TensorFlow Lite",)),
    Case("msgpack of Flax", b"\x81\xa6params\x81\xa5Dense\x81\xa6kernel\xc7" + bytes(99), _FORMAT, ("msgpack",)),
    Case("a program", b"\x7fELF\x02\x01\x01" + bytes(99), _FORMAT, ("ELF",)),
    Case("a Windows program", b"MZ\x90\0" + bytes(99), _FORMAT, ("Windows",)),
    Case("a script", b"#!/bin/sh\ntouch evil\n", _FORMAT, ("script",)),
    Case("OpenVINO", b'<?xml version="1.0"?><net name="x">', _FORMAT, ("XML",)),
    Case("ExecuTorch", b"\x30\0\0\0ET12" + bytes(99), _FORMAT, ("ExecuTorch",)),
    Case("a web page", b"<!DOCTYPE html><title>404</title>", _FORMAT, ("web page",)),
    Case("a Git LFS pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", _FORMAT, ("LFS",)),
    Case("an image", b"\x89PNG\r\n\x1a\n" + bytes(99), _FORMAT, ("PNG",)),
    Case("a PDF", b"%PDF-1.7\n" + bytes(99), _FORMAT, ("PDF",)),
    Case("JSON", b'{"a": 1}' + b" " * 99, _FORMAT, ("JSON",)),
    Case("Parquet", b"PAR1" + bytes(99), _FORMAT, ("Parquet",)),
    Case("a bare pickle", pickle.dumps({"a": [1.0, 2.0]}), _FORMAT, ("bare Python pickle",), "model.pkl"),
    Case("a bare pickle of an array", pickle.dumps({"a": ones(2).numpy()}), _FORMAT, ("bare Python pickle",)),
    Case("torch called safetensors", _TORCH, _EXTENSION, ("torch-zip", "safetensors"), "model.safetensors"),
    Case("safetensors called torch", _SAFE, _EXTENSION, ("safetensors",), "model.pth"),
    Case("old torch called safetensors", legacy({"w": tensor()}), _EXTENSION, ("torch-legacy",), "model.safetensors"),
    Case("torch called zip", _TORCH, _EXTENSION, ("zip",), "model.zip"),
    Case("torch called an image", _TORCH, _EXTENSION, (), "model.png"),
    Case("torch with a second extension", _TORCH, _EXTENSION, (), "model.pth.exe"),
    Case("torch with a NUL in its name", _TORCH, _EXTENSION, (), "model.pth\0.png"),
    Case(
        "safetensors whose length is a magic",
        struct.pack("<Q", 0x04034B50) + b"{}" + bytes(9),
        "unsupported_zip"[:0] + "invalid_archive",
        (),
    ),
]
