"""Repositories and reference sets that mean harm, through the real intake (R7, R12, R13)."""

import io
import json
import struct
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors

from core.config import ScanConfig
from core.context import RunContext
from core.errors import InvalidInputError
from core.models.intake import intake
from core.models.source import Source, SourceFile
from tests.hostile.corpus.case import CANARY_FILE, PYTHON
from tests.hostile.corpus.pickles import Call, beside
from tests.support.canary import FIRED
from tests.support.checkpoints import png, run_intake, save, tiny_network
from tests.support.pickle_builder import torch_zip
from tests.support.zip_builder import Entry, build_zip

VIT = {
    "model_type": "vit",
    "architectures": ["ViTForImageClassification"],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
    "num_labels": 2,
}
WEIGHTS = save_safetensors({"w": torch.ones(2, 2)})
EVIL = torch_zip(beside(Call("os.system", "x")))


@pytest.fixture(autouse=True)
def nothing_runs() -> Iterator[None]:
    yield
    assert FIRED == []
    assert not CANARY_FILE.exists()
    assert "modeling_evil" not in sys.modules


def config(**changes: Any) -> bytes:
    return json.dumps(VIT | changes).encode()


REPOSITORIES: dict[str, tuple[dict[str, bytes], str, str]] = {
    "code in the configuration": (
        {
            "config.json": config(auto_map={"AutoModel": "modeling_evil.Net"}),
            "modeling_evil.py": PYTHON.encode(),
            "model.safetensors": WEIGHTS,
        },
        "unsafe_config_code",
        "auto_map",
    ),
    "trust_remote_code": (
        {"config.json": config(trust_remote_code=True), "model.safetensors": WEIGHTS},
        "unsafe_config_code",
        "trust_remote_code",
    ),
    "a kernel repository": (
        {"config.json": config(_attn_implementation="evil/kernel"), "model.safetensors": WEIGHTS},
        "unsafe_config_code",
        "evil/kernel",
    ),
    "a key twice": (
        {"config.json": b'{"model_type": "vit", "model_type": "evil"}', "model.safetensors": WEIGHTS},
        "invalid_config",
        "twice",
    ),
    "a deep configuration": (
        {"config.json": b'{"a":' * 50 + b"1" + b"}" * 50, "model.safetensors": WEIGHTS},
        "invalid_config",
        "deep",
    ),
    "a pickle as weights": (
        {"config.json": config(), "pytorch_model.bin": EVIL},
        "unsafe_pickle_globals",
        "os.system",
    ),
    "weights beside a pickle": (
        {"config.json": config(), "model.safetensors": WEIGHTS, "pytorch_model.bin": EVIL},
        "",
        "",
    ),
    "an index that leads elsewhere": (
        {
            "config.json": config(),
            "model.safetensors.index.json": b'{"metadata": {}, "weight_map": {"w": "../../etc/passwd"}}',
            "model-00001-of-00001.safetensors": WEIGHTS,
        },
        "",
        "",
    ),
    "an architecture that is unknown": (
        {"config.json": config(model_type="evil", architectures=["Evil"]), "model.safetensors": WEIGHTS},
        "unsupported_",
        "evil",
    ),
    "a billion layers": (
        {"config.json": config(num_hidden_layers=1_000_000_000), "model.safetensors": WEIGHTS},
        "",
        "",
    ),
    "a network of terabytes": (
        {"config.json": config(hidden_size=1 << 20, intermediate_size=1 << 30), "model.safetensors": WEIGHTS},
        "",
        "",
    ),
    "no weights": ({"config.json": config(), "README.md": b"hello"}, "", ""),
    "only code": ({"modeling_evil.py": PYTHON.encode(), "setup.py": PYTHON.encode()}, "", ""),
}


@pytest.mark.parametrize("name", REPOSITORIES)
@pytest.mark.parametrize("packed", [False, True], ids=["files", "zip"])
def test_repositories(name: str, packed: bool, tmp_path: Path) -> None:
    files, code, word = REPOSITORIES[name]
    if packed:
        (tmp_path / "repo.zip").write_bytes(build_zip([Entry(f"repo/{path}", data) for path, data in files.items()]))
        source = Source.single(tmp_path / "repo.zip", "repo.zip")
    else:
        for number, data in enumerate(files.values()):
            (tmp_path / f"blob{number}").write_bytes(data)
        source = Source(tuple(SourceFile(path, tmp_path / f"blob{n}") for n, path in enumerate(files)))
    started = time.monotonic()
    with pytest.raises(InvalidInputError) as caught:
        intake(source, None, ScanConfig(), tmp_path / "intake", RunContext())
    assert time.monotonic() - started < 60
    assert caught.value.code.startswith(code or ("unsafe_", "unsupported_", "invalid_"))
    assert word in caught.value.detail
    assert "cannot be read (" not in caught.value.detail
    assert str(tmp_path) not in caught.value.detail


ARCHIVES: dict[str, tuple[Entry, str]] = {
    "up and out": (Entry("repo/../../evil", b"x"), "unsafe_archive_paths"),
    "absolute": (Entry("/etc/cron.d/evil", b"x"), "unsafe_archive_paths"),
    "a drive": (Entry("C:/evil", b"x"), "unsafe_archive_paths"),
    "backslashes": (Entry("..\\evil", b"x"), "unsafe_archive_paths"),
    "NUL": (Entry(b"repo/config.json\0.txt", b"x"), "unsafe_archive_paths"),
    "a link": (Entry("repo/model.bin", b"/etc/passwd", mode=0o120777), "unsafe_archive_links"),
    "a device": (Entry("repo/zero", b"", mode=0o020666), "unsafe_archive_links"),
    "the configuration twice": (Entry("repo/CONFIG.json", b"{}"), "unsafe_archive_duplicates"),
    "a bomb": (Entry("repo/more.json", bytes(10 << 20), 8), "unsafe_archive_bomb"),
    "a comment": (Entry("repo/x", b"x", comment=b"evil"), "unsafe_archive_surplus"),
    "a lie": (Entry("repo/x", b"x", local={"size": 5}), "unsafe_archive_mismatch"),
    "encrypted": (Entry("repo/x", b"x", flags=1), "unsupported_archive"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_of_repositories(name: str, tmp_path: Path) -> None:
    entry, code = ARCHIVES[name]
    good = [Entry("repo/config.json", config()), Entry("repo/model.safetensors", WEIGHTS)]
    (tmp_path / "repo.zip").write_bytes(build_zip([*good, entry]))
    with pytest.raises(InvalidInputError) as caught:
        run_intake(tmp_path / "repo.zip", tmp_path / "intake")
    assert caught.value.code == code
    assert "repo.zip" in caught.value.detail
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "intake") == ["repo.zip"]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def huge_png(side: int) -> bytes:
    """A few bytes that say they are `side` x `side` pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def image(kind: str, frames: int = 1) -> bytes:
    buffer = io.BytesIO()
    pictures = [Image.new("RGB", (32, 32), (i, 2 * i, 3 * i)) for i in range(frames)]
    options = {"save_all": True, "append_images": pictures[1:]} if frames > 1 else {}
    pictures[0].save(buffer, kind, **options)
    return buffer.getvalue()


#: One bad image among good ones: it alone is not used, and its row says why.
BAD_IMAGES: dict[str, tuple[str, bytes]] = {
    "50,000 x 50,000": ("a.png", huge_png(50_000)),
    "13,000 x 13,000": ("a.png", huge_png(13_000)),
    "80 frames": ("a.gif", image("GIF", 80)),
    "TIFF called JPEG": ("a.jpg", image("TIFF")),
    "an icon": ("a.ico", image("ICO")),
    "a vector image with a script": (
        "a.svg",
        b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>",
    ),
    "PostScript": ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n(evil) run\n"),
    "cut off": ("a.png", png(1)[:200]),
    "noise": ("a.png", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9),
    "a pickle": ("a.png", EVIL),
    "nothing": ("a.png", b""),
}


@pytest.mark.parametrize("name", BAD_IMAGES)
def test_images(name: str, tmp_path: Path) -> None:
    file, content = BAD_IMAGES[name]
    model = save(tiny_network().state_dict(), tmp_path / "m", "torch-zip")
    entries = [Entry(f"{i % 10}/{i}.png", png(i)) for i in range(20)] + [Entry(f"3/bad-{file}", content)]
    (tmp_path / "r.zip").write_bytes(build_zip(entries))
    folder = run_intake(model, tmp_path / "intake", tmp_path / "r.zip")
    report = json.loads((folder / "reference.json").read_text())
    assert report["images_used"] == 20
    assert any("bad-a" in str(reject) for reject in [*report["rejected"], *report.get("rejects", [])]), report
