"""Genuine files, changed where it matters: every gate answers with facts or a typed refusal, never anything else.

What a gate accepts is also given to the other reader of that format (torch's restricted one, safetensors'), which must
refuse it or see the same tensors. ASSAY_FUZZ_SECONDS is the time for each gate; `make fuzz` gives each ten minutes.
"""

import copy
import io
import json
import os
import pickletools
import random
import struct
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_safetensors
from torch import Tensor

from core.errors import InvalidInputError
from core.models.formats import read_checkpoint
from tests.support.canary import FIRED
from tests.support.pickle_builder import encode, tensor, torch_zip

SECONDS = float(os.environ.get("ASSAY_FUZZ_SECONDS", "10"))
_BATCH = 50
_INTERESTING = (0, 1, 2, 3, 4, 8, 20, 22, 46, 255, 256, 65534, 65535, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)

Edit = tuple[int, int, int, bytes]
edits = st.lists(
    st.tuples(st.integers(0, 8), st.integers(0, 1 << 16), st.integers(0, 1 << 16), st.binary(max_size=12)),
    min_size=1,
    max_size=4,
)


def fuzz(property_: Callable[[list[Edit]], None]) -> int:
    """Runs `property_` on ever new edits until the time is up; returns the number of cases."""
    end, cases = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:

        @settings(
            max_examples=_BATCH,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(edits)
        def batch(changes: list[Edit]) -> None:
            nonlocal cases
            cases += 1
            property_(changes)

        batch()
    return cases


def verdict(path: Path, file: bytes, name: str) -> Any:
    """What the checkpoint holds; None if it was refused the way it should be."""
    path.write_bytes(file)
    started = time.monotonic()
    try:
        content = read_checkpoint(path, name).content
    except InvalidInputError as error:
        refusal = error
    else:
        return content
    finally:
        assert time.monotonic() - started < 20
        assert FIRED == []
    assert "cannot be read (" not in refusal.detail, f"a parser failed: {refusal!r} from {refusal.__cause__!r}"
    assert refusal.code.startswith(("invalid_", "unsafe_", "unsupported_"))
    assert len(refusal.detail) < 2_000
    return None


def tensors_of(value: Any, path: str = "") -> dict[str, Tensor]:
    if isinstance(value, Tensor):
        return {path: value}
    if isinstance(value, Mapping):
        items: Any = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    else:
        return {}
    found: dict[str, Tensor] = {}
    for index, (key, item) in enumerate(items):  # what stands for a class differs between the readers
        name = repr(key) if isinstance(key, str | int | float) else f"#{index}"
        found |= tensors_of(item, f"{path}/{name}")
    return found


def assert_same(ours: Any, theirs: Any) -> None:
    mine, other = tensors_of(ours), tensors_of(theirs)
    assert mine.keys() == other.keys()
    for key, value in mine.items():
        assert value.shape == other[key].shape
        assert value.dtype == other[key].dtype
        assert value.contiguous().view(-1).view(torch.uint8).tolist() == (
            other[key].detach().contiguous().view(-1).view(torch.uint8).tolist()
        )


def by_torch(content: bytes) -> Any:
    try:
        return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")
    except Exception:
        return None


def genuine() -> list[Any]:
    weight = torch.arange(12.0).reshape(3, 4)
    return [
        {"w": weight, "v": weight[1:, 1:], "n": torch.tensor(3)},
        {"state_dict": {"w": weight}, "best": np.float64(0.5), "epoch": 3, "a": np.arange(4.0), "s": {1, 2}},
        {"m": torch.nn.Linear(2, 3).state_dict(), "o": {"state": {0: {"step": torch.tensor(1.0)}}, "b": (0.9, 0.99)}},
    ]


def saved(content: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


def edit_bytes(content: bytes, changes: list[Edit], anchors: list[int]) -> bytes:
    """Changes at `anchors` (beginnings of structures) or anywhere."""
    data = bytearray(content)
    for kind, where, what, raw in changes:
        at = anchors[where % len(anchors)] + what % 64 if kind < 5 and anchors else where % (len(data) + 1)
        at = min(at, len(data))
        match kind:
            case 0 | 1:
                width = (1, 2, 4, 8)[what % 4]
                value = _INTERESTING[where % len(_INTERESTING)] & ((1 << 8 * width) - 1)
                data[at : at + width] = value.to_bytes(width, "little")
            case 2:
                data[at : at + 1] = bytes([(data[at] ^ (1 << what % 8)) if at < len(data) else what % 256])
            case 3:
                data[at:at] = raw
            case 4:
                del data[at : at + 1 + what % 64]
            case 5:
                data = data[:at]
            case 6:
                data += raw or b"\0"
            case 7:
                end = min(at + 1 + what % 200, len(data))
                target = anchors[what % len(anchors)] if anchors else 0
                data[target:target] = data[at:end]
            case _:
                data[at : at + len(raw)] = raw
    return bytes(data)


def structures(content: bytes) -> list[int]:
    found = []
    for mark in (b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07", b"PK\x07\x08"):
        at = content.find(mark)
        while at >= 0:
            found.append(at)
            at = content.find(mark, at + 1)
    return sorted(found)


def test_zip_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    originals = [saved(content) for content in genuine()] + [torch_zip({"w": tensor()}, zip64=True)]
    path, accepted = tmp_path / "m.pth", 0

    def check(changes: list[Edit]) -> None:
        nonlocal accepted
        original = originals[changes[0][1] % len(originals)]
        content = edit_bytes(original, changes, structures(original))
        ours = verdict(path, content, "m.pth")
        if ours is None:
            return
        accepted += 1
        with zipfile.ZipFile(io.BytesIO(content)) as archive:  # another reader of archives sees the same members
            names = [member.filename for member in archive.infolist()]
        assert len(set(names)) == len(names)
        theirs = by_torch(content)
        if theirs is not None:
            assert_same(ours, theirs)

    cases = fuzz(check)
    with capsys.disabled():
        print(f"\nzip gate: {cases} cases, {accepted} accepted")


def pieces(pickle: bytes) -> list[bytes]:
    positions = [position for _, _, position in pickletools.genops(pickle)]
    return [pickle[a:b] for a, b in zip(positions, [*positions[1:], len(pickle)], strict=True)]


def pool() -> list[bytes]:
    """Opcodes to throw in: all single bytes, calls of what must never be called, absurd lengths."""
    names = ["tests.support.canary\nfire", "builtins\neval", "os\nsystem", "builtins\ngetattr", "torch.nn\nLinear"]
    names += ["torch._utils\n_rebuild_tensor_v2", "collections\nOrderedDict", "_codecs\nencode", "numpy\ndtype"]
    names += ["torch.storage\n_load_from_bytes", "torch\nSize", "builtins\nlist", "argparse\nNamespace"]
    result = [bytes([code]) for code in range(256)]
    result += [b"c" + name.encode() + b"\n" for name in names]
    result += [b"c" + name.encode() + b"\n" + encode(("x",)) + b"R" for name in names]
    result += [encode(value) for value in (-1, 1 << 40, 2.5, "storage", b"xy", [], {}, (), (1, 2), "cpu", "latin1")]
    result += [b"X" + struct.pack("<I", 1 << 31), b"\x8d" + struct.pack("<Q", 1 << 62), b"\x8b" + struct.pack("<i", -1)]
    result += [b"h" + bytes([index]) for index in range(12)] + [b"q" + bytes([index]) for index in range(12)]
    result += [b"j" + struct.pack("<I", 1 << 31), b"\x95" + struct.pack("<Q", 1 << 40), b"\x94", b"(" * 50, b"]" * 500]
    return result


def test_pickle_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    originals = []
    for content in genuine():
        for protocol in (2, 4, 5):
            with zipfile.ZipFile(io.BytesIO(saved(content, pickle_protocol=protocol))) as archive:
                blocks = {
                    name.rpartition("/")[2]: archive.read(name) for name in archive.namelist() if "/data/" in name
                }
                pickle = archive.read("archive/data.pkl")
            originals.append((pieces(pickle), blocks, saved(content, _use_new_zipfile_serialization=False)))
    extra, path, accepted = pool(), tmp_path / "m.pth", 0

    def check(changes: list[Edit]) -> None:
        nonlocal accepted
        parts, blocks, legacy = originals[changes[0][2] % len(originals)]
        parts = list(parts)
        for kind, where, what, raw in changes:
            at = where % len(parts) if parts else 0
            match kind:
                case 0 | 1:
                    parts[at:at] = [extra[what % len(extra)]]
                case 2:
                    del parts[at : at + 1 + what % 3]
                case 3:
                    parts[at:at] = parts[what % max(len(parts), 1) :][: 1 + where % 4]
                case 4:
                    parts[at : at + 1] = [extra[what % len(extra)]]
                case 5 | 6 if parts:
                    other = what % len(parts)
                    parts[at], parts[other] = parts[other], parts[at]
                case 7 if parts:
                    parts[at] = parts[at][:1] + raw
                case _ if parts:
                    piece = bytearray(parts[at])
                    piece[what % len(piece)] ^= 1 << (where % 8)
                    parts[at] = bytes(piece)
        content = torch_zip(b"".join(parts), blocks)
        if changes[0][0] == 8:
            content = edit_bytes(legacy, changes, [0, 20, 40])
        ours = verdict(path, content, "m.pth")
        if ours is None:
            return
        accepted += 1
        theirs = by_torch(content)
        if theirs is not None:
            assert tensors_of(theirs).keys() <= tensors_of(ours).keys()
            assert_same({k: v for k, v in tensors_of(ours).items() if k in tensors_of(theirs)}, tensors_of(theirs))

    cases = fuzz(check)
    with capsys.disabled():
        print(f"\npickle gate: {cases} cases, {accepted} accepted")


_VALUES: list[Any] = [
    None, True, -1, 0, 1, 2.0, 1e400, 1 << 31, 1 << 63, 1 << 70, "", "F32", "F16", "BF16", "F8_E4M3", "I64", "x" * 300,
    [], [0], [0, 0], [4, 0], [0, 4], [0, 48], [3, 4], [4, 3], [[1]], {}, {"a": 1}, "\u202e", "\0", "../w",
    [1 << 62, 1 << 62], [1] * 9,
]  # fmt: skip


def test_safetensors_gate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = save_safetensors(
        {"w": torch.arange(12.0).reshape(3, 4), "h": torch.ones(5).half(), "n": torch.tensor([3])}, {"format": "pt"}
    )
    length = int.from_bytes(original[:8], "little")
    header, data = json.loads(original[8 : 8 + length]), original[8 + length :]
    path, accepted = tmp_path / "m.safetensors", 0

    def check(changes: list[Edit]) -> None:
        nonlocal accepted
        content = json.loads(json.dumps(header))
        body = data
        for kind, where, what, raw in changes:
            names = sorted(content)
            name = names[where % len(names)] if names else "w"
            value = copy.deepcopy(_VALUES[what % len(_VALUES)])
            entry = content.get(name)
            match kind:
                case 0 | 1 | 2 if isinstance(entry, dict) and entry:
                    entry[sorted(entry)[where % len(entry)]] = value
                case 3:
                    content[name] = value
                case 4:
                    content.pop(name, None)
                case 5:
                    content[str(value)[:300]] = entry
                case 6:
                    body = body[: where % (len(body) + 1)] + raw
                case 7 if isinstance(entry, dict):
                    entry[str(value)[:10]] = value
        text = json.dumps(content).encode()
        file = struct.pack("<Q", len(text)) + text + body
        if changes[0][0] == 8:
            file = edit_bytes(original, changes, [0, 8, 8 + length])
        ours = verdict(path, file, "m.safetensors")
        if ours is None:
            return
        accepted += 1
        try:
            with safe_open(str(path), framework="pt") as reader:
                assert_same(ours, {name: reader.get_tensor(name) for name in reader.keys()})  # noqa: SIM118
        except SafetensorError as error:
            pytest.fail(f"accepted, but not by safetensors: {error}")

    cases = fuzz(check)
    with capsys.disabled():
        print(f"\nsafetensors gate: {cases} cases, {accepted} accepted")


def test_the_fuzzer_itself_finds_what_is_planted() -> None:
    random.seed(0)

    def check(changes: list[Edit]) -> None:
        assert not any(kind == 3 and where % 7 == 0 for kind, where, _, _ in changes)

    with pytest.raises(AssertionError):
        fuzz(check)
