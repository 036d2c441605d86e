"""Every hostile file through the real intake: refused with its code and its reason, nothing runs, nothing hangs."""

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config import ScanConfig
from core.context import RunContext
from core.errors import AssayError, InvalidInputError, UnsafeError, UnsupportedError
from core.models.intake import intake
from core.models.safety.json_rules import check_config, parse_config
from core.models.source import Source
from tests.hostile.corpus import configs, formats, pickles, safetensors, tensors, zips
from tests.hostile.corpus.case import CANARY_FILE, Case
from tests.support.canary import FIRED

GROUPS = {"pickle": pickles, "tensor": tensors, "zip": zips, "format": formats, "safetensors": safetensors}
CASES = [pytest.param(case, id=f"{group}: {case.name}") for group, module in GROUPS.items() for case in module.CASES]
LIMIT_S = 60


@pytest.fixture(autouse=True)
def nothing_runs() -> Iterator[None]:
    yield
    assert FIRED == []
    assert not CANARY_FILE.exists()


@pytest.mark.parametrize("case", CASES)
def test_refused_with_its_code_and_reason(case: Case, tmp_path: Path) -> None:
    path = case.write(tmp_path)
    started = time.monotonic()
    with pytest.raises(InvalidInputError) as caught:
        intake(Source.single(path, case.filename), None, ScanConfig(), tmp_path / "intake", RunContext())
    error = caught.value
    assert time.monotonic() - started < LIMIT_S
    assert error.code == case.code, error.detail
    assert type(error) is case.kind
    for word in case.words:
        assert word in error.detail
    assert "cannot be read (" not in error.detail, "an unforeseen exception"
    assert error.hint
    assert str(tmp_path) not in error.detail
    assert len(error.detail) < 2_000
    assert error.detail.isprintable()
    assert not (tmp_path / "intake" / "weights.safetensors").exists()


def test_there_are_enough_of_every_kind() -> None:
    kinds = [case.values[0].kind for case in CASES]  # type: ignore[attr-defined]
    assert len(CASES) + len(configs.CONFIGS) >= 300
    for kind in (UnsafeError, UnsupportedError, InvalidInputError):
        assert kinds.count(kind) >= 40


@pytest.mark.parametrize(("name", "content", "code", "words"), configs.CONFIGS, ids=lambda value: str(value)[:40])
def test_configs(name: str, content: Any, code: str, words: tuple[str, ...]) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    with pytest.raises(InvalidInputError) as caught:
        check_config(parse_config(data, "config.json"), "config.json")
    assert caught.value.code == code, name
    assert "config.json" in caught.value.detail
    for word in words:
        assert word in caught.value.detail


@pytest.mark.parametrize(("name", "config"), configs.HARMLESS)
def test_harmless_configs(name: str, config: dict[str, Any]) -> None:
    check_config(parse_config(json.dumps(config).encode(), name), name)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd.pth", "a\nb.pth", "\u202egnp.pth", "x" * 5_000 + ".pth", "\x1b[2J.pth"]
)
def test_names_of_files_are_shown_harmlessly(name: str, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"no model")
    with pytest.raises(AssayError) as caught:
        intake(Source.single(tmp_path / "blob", name), None, ScanConfig(), tmp_path / "intake", RunContext())
    assert caught.value.detail.isprintable()
    assert len(caught.value.detail) < 500


def test_the_canary_can_fire(tmp_path: Path) -> None:
    """The payloads are live: the ordinary unpickler would run them."""
    import pickle

    payload = pickles.pickled(pickles.Call("tests.support.canary.fire", "x"))
    try:
        assert pickle.load(io.BytesIO(payload)) == "fired"
        assert FIRED == [("x",)]
    finally:
        FIRED.clear()
