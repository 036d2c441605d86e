"""Archives that are ambiguous, broken, or something else (R4, R12), as checkpoints."""

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np

from tests.hostile.corpus.case import Case
from tests.support.pickle_builder import Call, pickled, tensor, torch_zip
from tests.support.zip_builder import Entry, build_zip

_SURPLUS, _MISMATCH, _OVERLAP = "unsafe_archive_surplus", "unsafe_archive_mismatch", "unsafe_archive_overlap"
_PATHS, _DUPLICATES, _MEMBERS = "unsafe_archive_paths", "unsafe_archive_duplicates", "unsafe_archive_members"
_DAMAGED, _FEATURE, _FORMAT = "invalid_archive", "unsupported_archive", "unsupported_format"

GOOD: dict[str, Any] = {"w": tensor()}


def entries() -> list[Entry]:
    """The members of a good file."""
    return [
        Entry("archive/data.pkl", pickled(GOOD)),
        Entry("archive/data/0", bytes(16)),
        Entry("archive/version", b"3\n"),
    ]


def with_entry(**changes: Any) -> bytes:
    """A good file whose storage is written with a lie."""
    members = entries()
    members[1] = Entry(**({"name": "archive/data/0", "data": bytes(16)} | changes))
    return build_zip(members)


def more(*added: Entry, **options: Any) -> bytes:
    return torch_zip(GOOD, more=list(added), **options)


def _evil(name: str | bytes, **options: Any) -> bytes:
    return more(Entry(name, b"x", **options))


def _python_zip(files: dict[str, bytes], **options: Any) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **options) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _overlapping() -> bytes:
    """Two members whose directory entries point to the same bytes."""
    members = entries()
    members.append(Entry("archive/data/1", bytes(16), header_offset=0))
    return build_zip(members)


def _quine() -> bytes:
    """A member whose data hold another member's header."""
    inner = build_zip([Entry("archive/data/1", bytes(16))])[: 30 + 14 + 16]
    members = entries()
    members[1] = Entry("archive/data/0", inner)
    first = len(build_zip(members[:1])) - len(build_zip([])) - 46 - len("archive/data.pkl")
    members.append(
        Entry("archive/data/1", b"", header_offset=first + 30 + 14, size=16, packed=16, crc=zlib.crc32(bytes(16)))
    )
    return build_zip(members)


_ZIP = torch_zip(GOOD)
_EVIL = torch_zip({"w": Call("os.system", "x")})
_Z64 = struct.pack("<HHQQ", 1, 16, 16, 16)

CASES = [
    # more than one archive, or bytes that belong to none
    Case("a program in front", b"MZ" + _ZIP, _SURPLUS, ("two things",)),
    Case("an image in front", b"\x89PNG\r\n\x1a\n" + bytes(99) + _ZIP, _SURPLUS, ("two things",)),
    Case("noise in front", bytes(range(1, 200)) + _ZIP, _SURPLUS, ("two things",)),
    Case(
        "something in front that offsets know of",
        torch_zip(GOOD, prefix=b"PK\x03\x04" + bytes(60)),
        _SURPLUS,
        ("before the first member",),
    ),
    Case("another archive in front", _EVIL + _ZIP, _SURPLUS),
    Case("another archive behind", _ZIP + _EVIL, _SURPLUS),
    Case("a byte behind", _ZIP + b"\n", _SURPLUS, ("behind",)),
    Case("a megabyte behind", _ZIP + bytes(1 << 20), _SURPLUS, ("1048576 bytes",)),
    Case("a comment", torch_zip(GOOD, comment=b"hello"), _SURPLUS, ("comment",)),
    Case("an archive as the comment", torch_zip(GOOD, comment=_EVIL), _SURPLUS),
    Case("a second end", _ZIP + _ZIP[-22:], _SURPLUS),
    Case("bytes between members", with_entry(tail=b"gap"), _SURPLUS, ("3 bytes",)),
    Case("bytes before the directory", torch_zip(GOOD, before_directory=b"gap"), _SURPLUS),
    Case("bytes behind the directory", torch_zip(GOOD, after_directory=b"gap"), _SURPLUS, ("3 bytes",)),
    Case("a directory that begins later", torch_zip(GOOD, offset_shift=4), _DAMAGED),
    Case("a directory that begins earlier", torch_zip(GOOD, offset_shift=-4), _SURPLUS),
    Case("a member's comment", with_entry(comment=b"x"), _SURPLUS, ("comment", "data/0")),
    Case(
        "a hidden member", torch_zip(GOOD, before_directory=build_zip([Entry("archive/evil.pkl", b"x")])[:60]), _SURPLUS
    ),
    # two descriptions of one member
    Case("two names", with_entry(local={"name": b"archive/data/9"}), _MISMATCH, ("calls itself",)),
    Case("two sizes", with_entry(local={"size": 99}), _MISMATCH, ("size",)),
    Case("two packed sizes", with_entry(local={"packed": 99}), _MISMATCH, ("size",)),
    Case("two CRCs", with_entry(local={"crc": 99}), _MISMATCH, ("CRC",)),
    Case("two methods", with_entry(local={"method": 8}), _MISMATCH, ("method",)),
    Case("two sets of flags", with_entry(local={"flags": 0x800}), _MISMATCH, ("Flags",)),
    Case(
        "a descriptor that lies",
        with_entry(flags=8, descriptor=b"PK\x07\x08" + struct.pack("<LLL", 1, 16, 16)),
        _MISMATCH,
        ("descriptor",),
    ),
    Case("no descriptor where one is announced", with_entry(flags=8, descriptor=b""), _MISMATCH, ("descriptor",)),
    Case("a descriptor nobody announced", with_entry(descriptor=b"PK\x07\x08" + bytes(12)), _SURPLUS),
    Case("a local header that is zero without a descriptor", with_entry(local={"crc": 0}, crc=5), _MISMATCH),
    Case("a second name", with_entry(extra=struct.pack("<HHBL", 0x7075, 6, 1, 0) + b"x"), _MISMATCH, ("second name",)),
    Case(
        "two long sizes", with_entry(size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=_Z64 + _Z64, local_extra=_Z64), _MISMATCH
    ),
    Case(
        "a long size nobody asked for", with_entry(extra=struct.pack("<HHQQ", 1, 16, 99, 99)), _MISMATCH, ("long size",)
    ),
    Case("a long size that is missing", with_entry(size=0xFFFFFFFF), _DAMAGED, ("long size",)),
    Case("an extra field that is cut off", with_entry(extra=b"\x01\x00\xff\xff"), _DAMAGED, ("extra field",)),
    Case("fewer members than there are", torch_zip(GOOD, count=2), _MISMATCH, ("more members",)),
    Case("more members than there are", torch_zip(GOOD, count=9), _MISMATCH, ("fewer members",)),
    Case(
        "two ends that differ",
        torch_zip(GOOD, zip64=True, end_overrides={"count": 3, "here": 3}),
        _MISMATCH,
        ("two ends",),
    ),
    Case("a long end elsewhere", torch_zip(GOOD, zip64=True).replace(b"PK\x06\x06", b"PK\x06\x09"), _MISMATCH),
    Case(
        "a file that is a folder",
        _python_zip({"a/data.pkl": b"x"}).replace(b"\x00\x00\x80\x01", b"\x10\x00\x80\x01"),
        _MISMATCH,
        ("folder",),
    ),
    # sharing bytes
    Case("two members at one place", _overlapping(), _OVERLAP),
    Case("a member within another", _quine(), _OVERLAP),
    Case("a member that runs into the next", with_entry(size=99, packed=99), _OVERLAP, ("runs into",)),
    Case("a member that runs past the end", with_entry(size=0x7FFFFFFF, packed=0x7FFFFFFF), _OVERLAP),
    # features
    Case("encrypted", with_entry(flags=1), _FEATURE, ("encrypted",)),
    Case("strongly encrypted", with_entry(flags=0x41), _FEATURE, ("encrypted",)),
    Case("a patch", with_entry(flags=0x20), _FEATURE, ("flags",)),
    Case("reserved flags", with_entry(flags=0x4000), _FEATURE, ("flags",)),
    Case("bzip2", with_entry(method=12), _FEATURE, ("method 12",)),
    Case("lzma", with_entry(method=14), _FEATURE, ("method 14",)),
    Case("zstandard", with_entry(method=93), _FEATURE, ("method 93",)),
    Case("imploded", with_entry(method=6), _FEATURE, ("method 6",)),
    Case("compressed", with_entry(method=8, data=bytes(range(16)) * 4), _FEATURE, ("compressed",)),
    Case("a bomb", lambda: with_entry(method=8, data=bytes(50 << 20)), "unsafe_archive_bomb", ("data/0",)),
    Case("a stored member with two sizes", with_entry(size=1 << 20), _MISMATCH),
    Case("a volume of several", with_entry(disk=1), _FEATURE, ("volumes",)),
    Case("the second of two volumes", torch_zip(GOOD, end_overrides={"disk": 1}), _FEATURE, ("volumes",)),
    Case(
        "10,001 members",
        lambda: build_zip([Entry(f"archive/data/{i}", b"x") for i in range(10_001)]),
        "unsupported_archive_size",
        ("10001",),
    ),
    # names
    Case("a member twice", _evil("archive/data/0"), _DUPLICATES, ("data/0",)),
    Case("a member twice but for case", _evil("archive/DATA.PKL"), _DUPLICATES),
    Case(
        "a member twice but for composition",
        more(Entry("archive/\u00e9", b"x", flags=0x800), Entry("archive/e\u0301", b"x", flags=0x800)),
        _DUPLICATES,
    ),
    Case("a folder and a file", more(Entry("archive/data", b"x")), _DUPLICATES, ("file and a folder",)),
    Case("up and out", _evil("archive/../../evil"), _PATHS, ("out of its folder",)),
    Case("absolute", _evil("/etc/passwd"), "unsupported_zip"),
    Case("absolute within", _evil("archive//etc/passwd"), _PATHS, ("empty parts",)),
    Case("backslashes", _evil("archive/..\\..\\evil"), _PATHS, ("backslash",)),
    Case("NUL", _evil(b"archive/evil\0.txt"), _PATHS, ("control",)),
    Case("an escape sequence", _evil(b"archive/\x1b[2Jevil"), _PATHS, ("control",)),
    Case("text turned around", _evil("archive/\u202elkp.exe", flags=0x800), _PATHS, ("invisible",)),
    Case("a dot", _evil("archive/./data/0"), _PATHS, ("empty parts",)),
    Case("a name of 60,000 letters", _evil("archive/" + "x" * 60_000), _PATHS, ("too long",)),
    Case("a name in an unknown encoding", _evil(b"archive/\xe9"), _DAMAGED, ("UTF-8",)),
    Case("a name that is no UTF-8", _evil(b"archive/\xe9", flags=0x800), _DAMAGED, ("UTF-8",)),
    Case("a link", _evil("archive/data/1", mode=0o120777), "unsafe_archive_links", ("link",)),
    Case("a device", _evil("archive/data/1", mode=0o020666), "unsafe_archive_links"),
    Case("a pipe", _evil("archive/data/1", mode=0o010666), "unsafe_archive_links"),
    Case("a folder with content", _evil("archive/data/"), "unsafe_archive_paths", ("folder",)),
    # damage
    *(
        Case(f"truncated to {share} %", _ZIP[: len(_ZIP) * share // 100], _DAMAGED, ("truncated",))
        for share in (10, 30, 50, 70, 90, 99)
    ),
    Case("only an end", build_zip([]), "unsupported_zip"),
    Case(
        "a header that is gone",
        _ZIP.replace(b"PK\x03\x04", b"PK\x03\x05").replace(b"PK\x03\x05", b"PK\x03\x04", 1),
        _DAMAGED,
    ),
    Case("a directory that is gone", _ZIP.replace(b"PK\x01\x02", b"PK\x01\x03"), _DAMAGED, ("directory",)),
    Case(
        "a byte of the weights flipped",
        build_zip(
            [*entries()[:1], Entry("archive/data/0", bytes(15) + b"\1", crc=zlib.crc32(bytes(16))), entries()[2]]
        ),
        _DAMAGED,
        ("CRC",),
    ),
    Case(
        "a version of the format that is none",
        _ZIP.replace(b"PK\x01\x02\x14\x03\x14", b"PK\x01\x02\x14\x03\xff"),
        _FEATURE,
        ("version",),
    ),
    # what torch.save does not write
    Case("a script beside the weights", _evil("archive/setup.py"), _MEMBERS, ("setup.py",)),
    Case("a library beside the weights", _evil("archive/evil.so"), _MEMBERS),
    Case("two folders", _evil("other/data.pkl"), "unsupported_zip", ("torch.save",)),
    Case(
        "a version that is a text", more(Entry("archive/.format_version", b"import os")), _MEMBERS, (".format_version",)
    ),
    Case("a version of a megabyte", more(Entry("archive/.format_version", b"1" * (1 << 20))), _MEMBERS),
    Case(
        "big-endian",
        torch_zip(GOOD).replace(b"archive/byteorderlittle", b"archive/byteorderlittle")[:0]
        + build_zip([*entries(), Entry("archive/byteorder", b"big")]),
        "unsupported_byte_order",
        ("big-endian",),
    ),
    Case("a byte order that is none", build_zip([*entries(), Entry("archive/byteorder", b"pdp11")]), _MEMBERS),
    Case("a storage with a strange name", _evil("archive/data/weights"), _MEMBERS),
    # other things in a zip
    Case(
        "TorchScript",
        _python_zip({"m/code/x.py": b"", "m/data.pkl": b".", "m/constants.pkl": b"."}),
        "unsupported_torchscript",
        ("TorchScript",),
    ),
    Case(
        "TorchScript without constants",
        _python_zip({"m/code/__torch__.py": b"", "m/data.pkl": b"."}),
        "unsupported_torchscript",
    ),
    Case(
        "torch.package",
        _python_zip({"m/.data/extern_modules": b"", "m/x.py": b""}),
        "unsupported_torch_package",
        ("torch.package",),
    ),
    Case(
        "torch.package beside a pickle",
        more(Entry("archive/.data/python_version", b"3.11")),
        "unsupported_torch_package",
    ),
    Case("npz", _npz(a=np.ones(3)), _FORMAT, ("npz",)),
    Case("npz of objects", _npz(a=np.array([{}, 1], dtype=object)), _FORMAT, ("npz",)),
    Case("Keras 3", _python_zip({"config.json": b"{}", "model.weights.h5": b"x"}), _FORMAT, ("Keras",)),
    Case(
        "a zipped SavedModel",
        _python_zip({"m/saved_model.pb": b"\x08\x01", "m/variables/x": b""}),
        _FORMAT,
        ("SavedModel",),
    ),
    Case(
        "torch.export",
        _python_zip({"e/archive_format": b"pt2", "e/models/model.json": b"{}", "e/data/sample_inputs/model.pt": b"x"}),
        _FORMAT,
        ("torch.export",),
    ),
    Case("TorchServe", _python_zip({"MAR-INF/MANIFEST.json": b"{}", "model.pth": b"x"}), _FORMAT, ("TorchServe",)),
    Case(
        "a Java archive", _python_zip({"META-INF/MANIFEST.MF": b"", "A.class": b"\xca\xfe\xba\xbe"}), _FORMAT, ("Java",)
    ),
    Case("a checkpoint in a zip", _python_zip({"model.pth": _ZIP}), "unsupported_nested_archive", ("inside",)),
    Case("a zip in a zip", _python_zip({"a/b.zip": _ZIP}), "unsupported_nested_archive"),
    Case("a zip beside the weights", _evil("archive/more.zip"), "unsupported_nested_archive"),
    Case("a wheel", _python_zip({"evil/__init__.py": b"", "evil-1.dist-info/METADATA": b""}), "unsupported_zip"),
    Case("a document", _python_zip({"[Content_Types].xml": b"", "word/document.xml": b""}), "unsupported_zip"),
]
