"""The three ways to name a model, and what is wrong with all others."""

from typing import Any

import pytest
from fastapi.testclient import TestClient

from core.domain import JobState
from core.manifest import Manifest, ManifestFile
from tests.support.http import Harness, is_problem, sha256, upload

DIGEST = sha256(b"something")


def manifest(files: dict[str, bytes]) -> Manifest:
    return Manifest.of(ManifestFile(path, sha256(data), len(data)) for path, data in files.items())


def of_files(client: TestClient, files: dict[str, bytes]) -> dict[str, Any]:
    return {"files": [{"path": path, "blob": upload(client, data)} for path, data in files.items()]}


def test_files_are_named_by_their_manifest(client: TestClient, harness: Harness) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    body = {"model": {**of_files(client, files), "filename": "my model"}}
    scan = client.post("/v1/scans", json=body).json()
    made = manifest(files)
    assert (scan["model"]["sha256"], scan["model"]["filename"]) == (made.sha256, "my model")
    again = client.post("/v1/scans", json={"model": {"files": list(reversed(body["model"]["files"]))}}).json()
    assert (again["id"], again["reused"]) == (scan["id"], True)
    by_digest = client.post("/v1/scans", json={"model": {"blob": made.sha256}}).json()
    assert (by_digest["id"], by_digest["reused"]) == (scan["id"], True)
    claim = harness.claim(scan["id"])
    assert claim.contents is not None
    assert claim.contents.manifest == made
    placed = harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
    assert placed.model_path.read_bytes() == made.to_bytes()
    assert {file.path: file.location.read_bytes() for file in placed.model_files} == files
    model = client.get(f"/v1/models/{scan['model']['id']}").json()
    assert [(file["filename"], file["available"]) for file in model["files"]] == [
        ("config.json", True),
        ("model.safetensors", True),
    ]


def test_a_manifest_of_one_file_is_not_that_file(client: TestClient) -> None:
    alone = client.post("/v1/scans", json={"model": {"blob": upload(client, b"alone")}}).json()
    listed = client.post("/v1/scans", json={"model": of_files(client, {"a.safetensors": b"alone"})}).json()
    assert alone["model"]["id"] != listed["model"]["id"]


def test_a_foreign_file_is_not_there(client: TestClient, harness: Harness) -> None:
    _, stranger = harness.new_org()
    foreign = sha256(b"foreign file")
    assert client.put(f"/v1/blobs/{foreign}", content=b"foreign file", headers=stranger).status_code == 201
    answers = []
    for digest in (foreign, sha256(b"never uploaded")):
        model = of_files(client, {"config.json": b"{}"})
        model["files"].append({"path": "model.safetensors", "blob": digest})
        document = is_problem(client.post("/v1/scans", json={"model": model}), 404, "blob_not_found")
        answers.append({**document, "request_id": ""})
    assert answers[0] == answers[1]
    assert "model.safetensors" in answers[0]["detail"]


def test_a_foreign_manifest_is_only_bytes(client: TestClient, harness: Harness) -> None:
    files = {"config.json": b"{}", "model.safetensors": b"mine alone"}
    scan = client.post("/v1/scans", json={"model": of_files(client, files)}).json()
    _, stranger = harness.new_org()
    digest = scan["model"]["sha256"]
    is_problem(client.post("/v1/scans", json={"model": {"blob": digest}}, headers=stranger), 404, "blob_not_found")
    assert client.get(f"/v1/artifacts/{digest}", headers=stranger).status_code == 404


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([{"path": "../x", "blob": DIGEST}], "invalid_manifest"),
        ([{"path": "/etc/passwd", "blob": DIGEST}], "invalid_manifest"),
        ([{"path": ".git/config", "blob": DIGEST}], "invalid_manifest"),
        ([{"path": "a", "blob": DIGEST}, {"path": "A", "blob": DIGEST}], "invalid_manifest"),
        ([{"path": "a", "blob": DIGEST}, {"path": "a/b", "blob": DIGEST}], "invalid_manifest"),
        ([], "invalid_request"),
        ([{"path": "", "blob": DIGEST}], "invalid_request"),
        ([{"path": "a", "blob": "x"}], "invalid_request"),
        ([{"path": "a", "hub": "a/b"}], "invalid_request"),
    ],
)
def test_impossible_files(client: TestClient, files: list[dict[str, str]], code: str) -> None:
    upload(client, b"something")
    is_problem(client.post("/v1/scans", json={"model": {"files": files}}), 422, code)


@pytest.mark.parametrize(
    ("model", "code"),
    [
        ({}, "invalid_request"),
        ({"blob": DIGEST, "hub": "org/name"}, "invalid_request"),
        ({"blob": DIGEST, "files": [{"path": "a", "blob": DIGEST}]}, "invalid_request"),
        ({"blob": DIGEST, "revision": "main"}, "invalid_request"),
        ({"hub": "org/name", "filename": "x"}, "invalid_request"),
        ({"hub": "name"}, "invalid_request"),
        ({"hub": "https://example.org/a/b"}, "invalid_request"),
        ({"hub": "a/../b"}, "invalid_request"),
        ({"hub": "a/b", "revision": "-x"}, "invalid_request"),
        ({"hub": "a/b..c"}, "invalid_hub_reference"),
        ({"hub": "a/b.git"}, "invalid_hub_reference"),
        ({"hub": "a/b", "revision": "x/../y"}, "invalid_hub_reference"),
        ({"repo": "org/name"}, "unsupported_source"),
    ],
)
def test_impossible_references(client: TestClient, model: dict[str, Any], code: str) -> None:
    is_problem(client.post("/v1/scans", json={"model": model}), 422, code)


def test_a_manifest_survives_its_first_scan(client: TestClient, harness: Harness) -> None:
    files = of_files(client, {"a.json": b"[1]"})
    scan = client.post("/v1/scans", json={"model": files}).json()
    harness.finish(scan["id"])
    assert client.get(f"/v1/scans/{scan['id']}").json()["state"] == JobState.SUCCEEDED
    gate = client.get("/v1/gate", params={"sha256": scan["model"]["sha256"]}).json()
    assert gate["reasons"][0]["scan_id"] == scan["id"]
    assert harness.services.jobs.check_store().missing == []
