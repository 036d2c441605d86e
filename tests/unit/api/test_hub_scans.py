"""Scans of Hub references over HTTP: resolved at once, fetched later, answered by what is known already."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from api.app import create_app
from core.domain import Verdict
from core.manifest import Manifest, ManifestFile
from core.settings import Settings
from tests.support.http import Harness, app_client, is_problem, make_report, sha256
from tests.support.hub import Fault, LocalHub, settings_for
from worker.hub import hub_tokens

CONFIG, WEIGHTS = b'{"model_type": "vit"}', b"w" * 1_000_000
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": b"read me"}
SECRET_KEY = "a secret key of the tests, 32 characters"
CANARY = "hf_canarytoken0123456789"
BODY = {"model": {"hub": "org/name"}}


@pytest.fixture
def app(hub: LocalHub, tmp_path: Path) -> Iterator[tuple[TestClient, Harness]]:
    with app_client(tmp_path / "data", secret_key=SECRET_KEY, **settings_for(hub)) as made:
        yield made


def manifest(files: dict[str, bytes]) -> Manifest:
    return Manifest.of(ManifestFile(path, sha256(files[path]), len(files[path])) for path in files)


MODEL = manifest({path: FILES[path] for path in ("config.json", "model.safetensors")})


def test_a_reference_is_resolved_before_the_answer(hub: LocalHub, app: tuple[TestClient, Harness]) -> None:
    client, harness = app
    commit = hub.publish("org/name", FILES)
    answer = client.post("/v1/scans", json=BODY)
    assert answer.status_code == 202
    scan = answer.json()
    assert (scan["state"], scan["reused"]) == ("queued", False)
    expected = {"repo": "org/name", "revision": "main", "commit": commit, "ignored": ["README.md"]}
    assert scan["resolved"] == scan["model"]["hub"] == expected
    assert (scan["model"]["sha256"], scan["model"]["filename"]) == (MODEL.sha256, "name")
    assert hub.gets("model.safetensors") == []
    model = client.get(f"/v1/models/{scan['model']['id']}").json()
    assert model["hub"] == [expected]
    assert [(file["filename"], file["available"]) for file in model["files"]] == [
        ("config.json", True),
        ("model.safetensors", False),
    ]
    claim = harness.claim(scan["id"])
    notes: list[Any] = []
    placed = harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents, on_event=notes.append)
    assert {file.path: file.location.read_bytes() for file in placed.model_files} == {
        path: FILES[path] for path in ("config.json", "model.safetensors")
    }
    assert notes[-2] == {
        "event": "progress",
        "stage": "fetching",
        "fraction": 1.0,
        "bytes": len(WEIGHTS),
        "total_bytes": len(WEIGHTS),
    }
    assert harness.services.jobs.check_store().missing == []


def test_an_equal_revision_is_answered_by_the_earlier_result(hub: LocalHub, app: tuple[TestClient, Harness]) -> None:
    client, harness = app
    first_commit = hub.publish("org/name", FILES)
    first = client.post("/v1/scans", json=BODY).json()
    claim = harness.claim(first["id"])
    harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
    assert harness.services.jobs.succeed(claim, make_report(claim, Verdict.CLEAN, []), [])
    second_commit = hub.publish("org/name", {**FILES, "README.md": b"changed", "x.py": b"new"})
    hub.asked.clear()
    again = client.post("/v1/scans", json=BODY).json()
    assert (again["id"], again["reused"], again["verdict"]) == (first["id"], True, "clean")
    assert (again["model"]["hub"]["commit"], again["resolved"]["commit"]) == (first_commit, second_commit)
    assert again["resolved"]["ignored"] == ["README.md", "x.py"]
    assert hub.gets("model.safetensors") == []
    hub.asked.clear()
    third = client.post("/v1/scans", json={"model": {"hub": "org/name", "revision": second_commit}}).json()
    assert (third["id"], third["resolved"]["revision"]) == (first["id"], second_commit)
    assert [item.path for item in hub.asked] == [f"/api/models/org/name/revision/{second_commit}"]
    model = client.get(f"/v1/models/{first['model']['id']}").json()
    assert [item["revision"] for item in model["hub"]] == [second_commit, "main", "main"]


def test_a_changed_file_is_a_new_scan_that_fetches_only_it(hub: LocalHub, app: tuple[TestClient, Harness]) -> None:
    client, harness = app
    hub.publish("org/name", FILES)
    first = client.post("/v1/scans", json=BODY).json()
    claim = harness.claim(first["id"])
    harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
    hub.asked.clear()
    changed = b'{"model_type": "vit", "x": 1}'
    hub.publish("org/name", {**FILES, "config.json": changed})
    second = client.post("/v1/scans", json=BODY).json()
    assert second["id"] != first["id"]
    claim = harness.claim(second["id"])
    placed = harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
    assert {file.path: file.location.read_bytes() for file in placed.model_files} == {
        "config.json": changed,
        "model.safetensors": WEIGHTS,
    }
    assert hub.gets("model.safetensors") == []


def test_uploads_and_references_of_the_same_files_are_one_model(hub: LocalHub, app: tuple[TestClient, Harness]) -> None:
    client, _ = app
    hub.publish("org/name", FILES)
    by_reference = client.post("/v1/scans", json=BODY).json()
    files = []
    for path in ("config.json", "model.safetensors"):
        assert client.put(f"/v1/blobs/{sha256(FILES[path])}", content=FILES[path]).status_code in (200, 201)
        files.append({"path": path, "blob": sha256(FILES[path])})
    uploaded = client.post("/v1/scans", json={"model": {"files": files}}).json()
    assert (uploaded["id"], uploaded["reused"], uploaded["resolved"]) == (by_reference["id"], True, None)


def test_what_another_organisation_fetched_is_fetched_again(hub: LocalHub, app: tuple[TestClient, Harness]) -> None:
    client, harness = app
    hub.publish("org/name", FILES)
    scan = client.post("/v1/scans", json=BODY).json()
    claim = harness.claim(scan["id"])
    harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
    _, stranger = harness.new_org()
    hub.asked.clear()
    theirs = client.post("/v1/scans", json=BODY, headers=stranger).json()
    assert (theirs["reused"], theirs["model"]["sha256"]) == (False, scan["model"]["sha256"])
    assert [file.path for file in hub.gets("config.json")] != []
    claim = harness.claim(theirs["id"])
    harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
    assert hub.gets("model.safetensors") != []


@pytest.mark.parametrize(
    ("setting", "code", "status"),
    [
        ({"max_upload_bytes": 999_999}, "hub_file_too_large", 413),
        ({"hub_max_model_bytes": 1_000_000}, "hub_model_too_large", 413),
        ({"max_stored_bytes": 1_000_000}, "quota_exceeded", 429),
        ({"free_space_reserve_bytes": 2**60}, "storage_full", 507),
    ],
)
def test_limits_hold_before_anything_is_fetched(
    hub: LocalHub, tmp_path: Path, setting: dict[str, int], code: str, status: int
) -> None:
    hub.publish("org/name", FILES)
    with app_client(tmp_path / "data", **settings_for(hub), **setting) as (client, _):
        is_problem(client.post("/v1/scans", json=BODY), status, code)
    assert hub.gets("model.safetensors") == []


@pytest.mark.parametrize(
    ("body", "fault", "status", "code"),
    [
        ({"hub": "org/other"}, None, 404, "hub_repository_not_found"),
        ({"hub": "org/name", "revision": "v9"}, None, 404, "hub_revision_not_found"),
        ({"hub": "org/empty"}, None, 422, "hub_no_model"),
        ({"hub": "org/name"}, Fault(status=503), 503, "hub_unavailable"),
        ({"hub": "org/name"}, Fault(status=429, headers={"Retry-After": "77"}), 503, "hub_rate_limited"),
        ({"hub": "org/name"}, Fault(body=b"?"), 502, "hub_invalid_answer"),
    ],
)
def test_problems(
    hub: LocalHub, app: tuple[TestClient, Harness], body: dict[str, str], fault: Fault | None, status: int, code: str
) -> None:
    client, _ = app
    hub.publish("org/name", FILES)
    hub.publish("org/empty", {"README.md": b""})
    if fault is not None:
        hub.fail("revision", fault)
    answer = client.post("/v1/scans", json={"model": body})
    is_problem(answer, status, code)
    assert "canary" not in answer.text
    if code == "hub_rate_limited":
        assert answer.headers["retry-after"] == "77"
    assert client.get("/v1/scans").json()["items"] == []


def set_token(harness: Harness, token: str) -> None:
    services = harness.services
    hub_tokens(services.settings, services.database).set(
        "org_default", services.settings.hub_endpoint, SecretStr(token)
    )


def test_the_organisations_own_token_opens_its_repositories(
    hub: LocalHub, app: tuple[TestClient, Harness], caplog: pytest.LogCaptureFixture
) -> None:
    client, harness = app
    hub.publish("org/name", FILES)
    hub.repos["org/name"].token = CANARY
    hub.repos["org/name"].gated = True
    is_problem(client.post("/v1/scans", json=BODY), 403, "hub_gated")
    set_token(harness, CANARY)
    answer = client.post("/v1/scans", json=BODY)
    assert answer.status_code == 202
    claim = harness.claim(answer.json()["id"])
    harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
    _, stranger = harness.new_org()
    denied = client.post("/v1/scans", json=BODY, headers=stranger)
    is_problem(denied, 403, "hub_gated")
    assert "canary" not in caplog.text + answer.text + denied.text
    events = harness.services.jobs.events("org_default", answer.json()["id"])
    assert "canary" not in repr(events) + repr(claim)
    for file in (harness.services.settings.data_dir).rglob("*"):
        assert not file.is_file() or CANARY.encode() not in file.read_bytes(), file


def test_a_token_that_cannot_be_opened_is_the_operators_problem(hub: LocalHub, tmp_path: Path) -> None:
    hub.publish("org/name", FILES)
    with app_client(tmp_path / "data", secret_key=SECRET_KEY, **settings_for(hub)) as (_, harness):
        set_token(harness, CANARY)
    for changes, code in (
        ({}, "secret_key_missing"),
        ({"secret_key": "another key of 32 characters ..."}, "secret_key_wrong"),
    ):
        settings = Settings(
            data_dir=tmp_path / "data",
            broker_url="redis://127.0.0.1:1/0",
            free_space_reserve_bytes=0,
            **settings_for(hub),
            **changes,
        )
        with TestClient(create_app(settings), base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
            client.headers["Authorization"] = harness.bearer["Authorization"]
            answer = client.post("/v1/scans", json=BODY)
            is_problem(answer, 500, code)
            assert "canary" not in answer.text


def test_a_mirror_needs_no_network(hub: LocalHub, tmp_path: Path) -> None:
    folder = tmp_path / "mirror" / "org" / "name"
    folder.mkdir(parents=True)
    for path, data in FILES.items():
        (folder / path).write_bytes(data)
    with app_client(tmp_path / "data", **{**settings_for(hub), "hub_mirror": tmp_path / "mirror"}) as (client, harness):
        scan = client.post("/v1/scans", json=BODY).json()
        assert scan["model"]["sha256"] == MODEL.sha256
        claim = harness.claim(scan["id"])
        placed = harness.services.materials.place(claim.org_id, claim.model_sha256, claim.contents)
        assert [file.path for file in placed.model_files] == ["config.json", "model.safetensors"]
        is_problem(client.post("/v1/scans", json={"model": {"hub": "org/other"}}), 404, "hub_offline_missing")
    assert hub.asked == []
