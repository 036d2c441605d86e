"""POST /v1/models:inspect: the dry run through the real parsing child."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from fastapi.testclient import TestClient

from api.routes import models
from tests.support.checkpoints import tiny_network
from tests.support.http import Harness, sha256


class _Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def _upload(client: TestClient, headers: Mapping[str, str], data: bytes) -> str:
    digest = sha256(data)
    assert client.put(f"/v1/blobs/{digest}", content=data, headers=headers).status_code in (200, 201)
    return digest


@pytest.fixture
def checkpoint(client: TestClient, harness: Harness, tmp_path: Path) -> str:
    torch.save({"state_dict": tiny_network().state_dict(), "epoch": 3}, tmp_path / "m.pth")
    return _upload(client, harness.bearer, (tmp_path / "m.pth").read_bytes())


def _inspect(client: TestClient, headers: Mapping[str, str], **body: Any) -> Any:
    return client.post("/v1/models:inspect", json=body, headers=headers)


def test_an_accepted_model_is_described_with_its_cost(client: TestClient, harness: Harness, checkpoint: str) -> None:
    answer = _inspect(client, harness.bearer, model={"blob": checkpoint, "filename": "m.pth"}, preset="fast")
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["outcome"], report["layout"], report["kind"]) == ("accepted", "checkpoint", "classifier")
    assert report["network"]["architecture"] == "preactresnet-b1.1-w8.16"
    assert report["network"]["num_classes"] == 10
    assert report["files"][0]["path"] == "m.pth"
    assert report["files"][0]["second_opinion"]["dangerous"] == []
    assert any("reference set" in item for item in report["missing"])
    assert report["cost"]["preset"] == "fast"
    assert report["cost"]["scan_images"] > 0
    assert "measured" in report["cost"]["basis"]
    assert client.get("/v1/scans", headers=harness.bearer).json()["items"] == []


def test_what_would_run_is_answered_with_the_reason(client: TestClient, harness: Harness, tmp_path: Path) -> None:
    torch.save({"a": _Runs()}, tmp_path / "m.pth")
    digest = _upload(client, harness.bearer, (tmp_path / "m.pth").read_bytes())
    report = _inspect(client, harness.bearer, model={"blob": digest, "filename": "m.pth"}).json()
    assert report["outcome"] == "unsafe"
    assert report["findings"][0]["code"].startswith("unsafe_")
    assert "m.pth" in report["findings"][0]["detail"]
    assert "system" in report["findings"][0]["detail"]
    assert report["network"] is None
    assert report["cost"] is None


def test_a_model_of_several_files(client: TestClient, harness: Harness) -> None:
    config = _upload(client, harness.bearer, b'{"model_type": "vit", "auto_map": {"AutoModel": "x.Y"}}')
    files = [{"path": "config.json", "blob": config}, {"path": "model.safetensors", "blob": config}]
    report = _inspect(client, harness.bearer, model={"files": files}).json()
    assert (report["outcome"], report["findings"][0]["code"]) == ("unsafe", "unsafe_config_code")


def test_only_so_many_at_a_time(client: TestClient, harness: Harness, checkpoint: str) -> None:
    with ExitStack() as held:
        for _ in range(models._slots.count):
            held.enter_context(models._slots.one())
        answer = _inspect(client, harness.bearer, model={"blob": checkpoint})
    assert (answer.status_code, answer.json()["code"]) == (503, "inspections_busy")
    assert "Retry-After" in answer.headers


def test_whose_it_is_not_does_not_see_it(client: TestClient, harness: Harness, checkpoint: str) -> None:
    _, stranger = harness.new_org()
    answer = _inspect(client, stranger, model={"blob": checkpoint})
    assert (answer.status_code, answer.json()["code"]) == (404, "blob_not_found")
    reader = harness.new_key("read")
    assert _inspect(client, reader, model={"blob": checkpoint}).status_code == 403


@pytest.mark.parametrize(
    "body", [{}, {"model": {}}, {"model": {"blob": "x"}}, {"model": {"blob": "0" * 64}, "seed": 1}]
)
def test_wrong_bodies_are_refused(client: TestClient, harness: Harness, body: dict[str, Any]) -> None:
    assert client.post("/v1/models:inspect", json=body, headers=harness.bearer).status_code == 422


def test_what_is_no_json_is_refused(client: TestClient, harness: Harness) -> None:
    answer = client.post("/v1/models:inspect", content=b"{", headers=harness.bearer)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_json")
