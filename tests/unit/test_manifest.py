import json

import pytest

from core.errors import InvalidInputError, UnsupportedError
from core.manifest import Manifest, ManifestFile

_A, _B = "a" * 64, "b" * 64


def _manifest(*paths: str) -> Manifest:
    return Manifest.of(ManifestFile(path, _A, 3) for path in paths)


def test_order_does_not_matter() -> None:
    assert _manifest("b", "a/c").sha256 == _manifest("a/c", "b").sha256


def test_content_and_path_matter() -> None:
    digests = {
        _manifest("model.bin").sha256,
        _manifest("other.bin").sha256,
        Manifest.of([ManifestFile("model.bin", _B, 3)]).sha256,
        Manifest.of([ManifestFile("model.bin", _A, 4)]).sha256,
    }
    assert len(digests) == 4


def test_bytes_and_back() -> None:
    manifest = _manifest("config.json", "onnx/model.onnx", "model-00001-of-00002.safetensors")
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert manifest.size_bytes == 9


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "../up", "a/../b", "a//b", ".env", "a/.git/x", "a\\b", "a\x00b", "C:", "a.", "é", "x" * 256],
)
def test_paths_that_no_file_may_have(path: str) -> None:
    with pytest.raises(InvalidInputError, match="invalid_manifest"):
        _manifest(path)


@pytest.mark.parametrize("paths", [(), ("a", "a"), ("Config.json", "config.json"), ("a", "a/b")])
def test_lists_that_are_no_model(paths: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInputError, match="invalid_manifest"):
        _manifest(*paths)


def test_bytes_that_are_no_manifest() -> None:
    good = _manifest("a").to_bytes()
    for bad in (b"", b"[]", b"[" * 100_000, good + b" ", good.replace(b"3", b"true"), good.replace(_A.encode(), b"A")):
        with pytest.raises(InvalidInputError):
            Manifest.from_bytes(bad)
    value = json.loads(good) | {"schema": "assay-manifest/2"}
    with pytest.raises(UnsupportedError, match="unsupported_manifest"):
        Manifest.from_bytes(json.dumps(value).encode())
