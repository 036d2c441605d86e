"""Keys, scopes and organisations, checked over the table of routes itself."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api.app import create_app, prepare_database
from api.auth import Scope, is_loopback
from core.domain import Verdict
from core.errors import ForbiddenError
from core.jobs.reference_sets import NewReferenceSet
from core.settings import Settings
from tests.support.http import Harness, is_problem, settings_in, sha256, submit, upload
from tests.support.tus import BYTES, VERSION, create

#: What each operation needs. A route that is missing here fails test_every_route_is_listed.
SCOPES: dict[tuple[str, str], Scope | None] = {
    ("PUT", "/v1/blobs/{sha256}"): Scope.UPLOAD,
    ("HEAD", "/v1/blobs/{sha256}"): Scope.UPLOAD,
    ("OPTIONS", "/v1/uploads"): Scope.UPLOAD,
    ("GET", "/v1/uploads"): Scope.UPLOAD,
    ("POST", "/v1/uploads"): Scope.UPLOAD,
    ("HEAD", "/v1/uploads/{upload_id}"): Scope.UPLOAD,
    ("GET", "/v1/uploads/{upload_id}"): Scope.UPLOAD,
    ("PATCH", "/v1/uploads/{upload_id}"): Scope.UPLOAD,
    ("DELETE", "/v1/uploads/{upload_id}"): Scope.UPLOAD,
    ("POST", "/v1/reference-sets"): Scope.SCAN,
    ("GET", "/v1/reference-sets"): Scope.READ,
    ("GET", "/v1/reference-sets/{reference_set_id}"): Scope.READ,
    ("DELETE", "/v1/reference-sets/{reference_set_id}"): Scope.ADMIN,
    ("POST", "/v1/scans"): Scope.SCAN,
    ("GET", "/v1/scans"): Scope.READ,
    ("GET", "/v1/scans/{scan_id}"): Scope.READ,
    ("POST", "/v1/scans/{scan_id}/cancel"): Scope.SCAN,
    ("GET", "/v1/scans/{scan_id}/report"): Scope.READ,
    ("DELETE", "/v1/scans/{scan_id}"): Scope.ADMIN,
    ("GET", "/v1/artifacts/{sha256}"): Scope.DOWNLOAD,
    ("HEAD", "/v1/artifacts/{sha256}"): Scope.DOWNLOAD,
    ("GET", "/v1/models/{model_id}"): Scope.READ,
    ("DELETE", "/v1/models/{model_id}"): Scope.ADMIN,
    ("POST", "/v1/models:inspect"): Scope.SCAN,
    ("GET", "/v1/gate"): Scope.GATE,
    ("PUT", "/v1/hub-token"): Scope.ADMIN,
    ("GET", "/v1/hub-token"): Scope.ADMIN,
    ("DELETE", "/v1/hub-token"): Scope.ADMIN,
    ("GET", "/healthz"): None,
    ("GET", "/readyz"): None,
}
PROTECTED = [route for route, scope in SCOPES.items() if scope is not None]


def routes() -> set[tuple[str, str]]:
    document = create_app(Settings()).openapi()
    return {(method.upper(), path) for path, item in document["paths"].items() for method in item}


def test_every_route_is_listed() -> None:
    assert routes() == set(SCOPES)


def address(path: str, values: dict[str, str]) -> str:
    """`path` with its parameters filled in; the gate's is in the query."""
    filled = re.sub(r"\{(\w+)\}", lambda match: values[match[1]], path)
    return f"{filled}?sha256={values['sha256']}" if path == "/v1/gate" else filled


UNKNOWN = {
    "sha256": "0" * 64,
    "scan_id": "scan_" + "0" * 26,
    "model_id": "model_" + "0" * 26,
    "upload_id": "upload_" + "0" * 26,
    "reference_set_id": "refset_" + "0" * 26,
}
#: What a request needs besides a key to be looked at at all.
PROTOCOL = {"/v1/uploads": {**VERSION, **BYTES, "Upload-Offset": "0"}}


@pytest.mark.parametrize("route", PROTECTED, ids=str)
@pytest.mark.parametrize(
    ("authorization", "code"),
    [
        (None, "key_required"),
        ("Bearer ", "invalid_key"),
        ("Bearer nonsense", "invalid_key"),
        ("Bearer assay_000000000000_" + "0" * 64, "invalid_key"),
        ("Basic dXNlcjpwYXNz", "invalid_key"),
        ("Bearer \u00e9", "invalid_key"),
    ],
)
def test_nothing_without_a_key(
    client: TestClient, route: tuple[str, str], authorization: str | None, code: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization.encode()}
    answer = with_headers(client, route, UNKNOWN, headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    if route[0] != "HEAD":
        is_problem(answer, 401, code)


def with_headers(client: TestClient, route: tuple[str, str], values: dict[str, str], headers: Any) -> Any:
    """A request with exactly these headers instead of the client's own key."""
    own = client.headers.pop("Authorization", None)
    try:
        protocol = next((found for start, found in PROTOCOL.items() if route[1].startswith(start)), {})
        return client.request(route[0], address(route[1], values), headers={**protocol, **headers})
    finally:
        if own is not None:
            client.headers["Authorization"] = own


@pytest.mark.parametrize("route", PROTECTED, ids=str)
def test_each_scope_opens_its_routes_and_no_others(
    client: TestClient, harness: Harness, route: tuple[str, str], keys_by_scope: dict[Scope, dict[str, str]]
) -> None:
    needed = SCOPES[route]
    for scope, headers in keys_by_scope.items():
        status = with_headers(client, route, UNKNOWN, headers).status_code
        assert (status != 403) == (scope in (needed, Scope.ADMIN)), (scope, status)
        assert status < 500


@pytest.fixture(scope="module")
def keys_by_scope(harness: Harness) -> dict[Scope, dict[str, str]]:
    return {scope: harness.new_key(scope.value) for scope in Scope}


def test_a_form_needs_the_right_to_upload(client: TestClient, keys_by_scope: dict[Scope, dict[str, str]]) -> None:
    answer = client.post("/v1/scans", files={"model": ("m", b"x")}, headers=keys_by_scope[Scope.SCAN])
    is_problem(answer, 403, "missing_scope")


def test_a_revoked_key_is_worthless_at_once(client: TestClient, harness: Harness) -> None:
    plaintext, view = harness.services.keys.create("org_default", "short", ["read"])
    headers = {"Authorization": f"Bearer {plaintext}"}
    assert client.get("/v1/scans", headers=headers).status_code == 200
    harness.services.keys.revoke("org_default", view.id)
    is_problem(client.get("/v1/scans", headers=headers), 401, "invalid_key")


@pytest.fixture(scope="module")
def theirs(client: TestClient, harness: Harness) -> dict[str, str]:
    """Everything there can be, owned by the default organisation."""
    scan = submit(client, b"theirs")
    harness.finish(scan["id"], Verdict.BACKDOORED, purified=b"theirs-pure")
    shown = client.get(f"/v1/scans/{scan['id']}").json()
    return {
        "sha256": sha256(b"theirs-pure"),
        "scan_id": scan["id"],
        "model_id": shown["model"]["id"],
        "upload_id": create(client, 10).rsplit("/", 1)[1],
        "reference_set_id": reference_set_of(harness),
    }


def reference_set_of(harness: Harness) -> str:
    facts: dict[str, Any] = {"images": 10, "images_used": 10, "labelled": False, "label_kind": None, "classes": []}
    facts |= {"classes_total": 0, "sizes": {"smallest_side": 8, "largest_side": 8}, "rejected": [], "rejected_total": 0}
    new = NewReferenceSet("theirs", sha256(b"theirs"), {}, facts)
    return harness.services.jobs.create_reference_set("org_default", new)[0].id


@pytest.fixture(scope="module")
def stranger(harness: Harness) -> dict[str, str]:
    return harness.new_org()[1]


@pytest.mark.parametrize("route", [route for route in PROTECTED if "{" in route[1] or route[1] == "/v1/gate"], ids=str)
def test_another_organisation_sees_what_does_not_exist(
    client: TestClient, theirs: dict[str, str], stranger: dict[str, str], route: tuple[str, str]
) -> None:
    foreign = with_headers(client, route, theirs, stranger)
    unknown = with_headers(client, route, UNKNOWN, stranger)
    assert without_ids(foreign) == without_ids(unknown)
    assert foreign.status_code in (404, 422) or route[1] == "/v1/gate"
    # The owner is answered differently, or the comparison above would prove nothing.
    if route[0] != "PUT":
        method = "GET" if route[0] == "DELETE" else route[0]
        mine = with_headers(client, (method, route[1]), theirs, {"Authorization": client.headers["Authorization"]})
        assert mine.status_code not in (401, 403)
        assert without_ids(mine) != without_ids(unknown)


def without_ids(answer: Any) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers, without the id of the request and the digest that was asked for."""
    body = re.sub(r'"request_id":"\w+"|"sha256":"\w+"', "", answer.text)
    return answer.status_code, body, {k: v for k, v in answer.headers.items() if k not in ("x-request-id", "date")}


def test_lists_and_submissions_do_not_leak(
    client: TestClient, theirs: dict[str, str], stranger: dict[str, str]
) -> None:
    assert client.get("/v1/scans", headers=stranger).json()["items"] == []
    body = {"model": {"blob": sha256(b"theirs")}}
    is_problem(client.post("/v1/scans", json=body, headers=stranger), 404, "blob_not_found")
    # The same bytes are a first upload for everybody.
    first = client.put(f"/v1/blobs/{sha256(b'theirs')}", content=b"theirs", headers=stranger)
    assert first.status_code == 201
    scan = client.post("/v1/scans", json=body, headers=stranger).json()
    assert (scan["reused"], scan["state"]) == (False, "queued")
    assert (
        client.get(f"/v1/gate?sha256={sha256(b'theirs')}", headers=stranger).json()["reasons"][0]["code"] == "pending"
    )


def test_deleting_needs_the_owner(client: TestClient, harness: Harness, stranger: dict[str, str]) -> None:
    scan = submit(client, b"delete-me")
    harness.finish(scan["id"])
    model_id = scan["model"]["id"]
    is_problem(client.delete(f"/v1/models/{model_id}", headers=stranger), 404, "model_not_found")
    assert client.get(f"/v1/models/{model_id}").status_code == 200
    assert client.delete(f"/v1/models/{model_id}").status_code == 204
    is_problem(client.get(f"/v1/models/{model_id}"), 404, "model_not_found")
    assert client.head(f"/v1/blobs/{sha256(b'delete-me')}").status_code == 404


def embedded_app(folder: Path, **options: Any) -> FastAPI:
    return create_app(Settings(data_dir=folder, free_space_reserve_bytes=0), **options)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The embedded default, as `assay serve` starts it."""
    app = embedded_app(tmp_path_factory.mktemp("local") / "data", bind_host="127.0.0.1")
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        yield client


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "localhost", "[::1]:8000"])
def test_loopback_needs_no_key(local: TestClient, host: str) -> None:
    assert local.get("/v1/scans", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "["},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"X-Forwarded-For": "203.0.113.7"},
        {"Forwarded": "for=203.0.113.7"},
    ],
    ids=str,
)
def test_pages_and_proxies_are_not_local(local: TestClient, headers: dict[str, str]) -> None:
    is_problem(local.get("/v1/scans", headers=headers), 401, "key_required")
    is_problem(local.post("/v1/scans", files={"model": ("m", b"x")}, headers=headers), 401, "key_required")


def test_a_wrong_key_is_wrong_on_loopback_too(local: TestClient) -> None:
    is_problem(local.get("/v1/scans", headers={"Authorization": "Bearer x"}), 401, "invalid_key")


def test_other_addresses_need_a_key(local: TestClient) -> None:
    with TestClient(local.app, base_url="http://10.0.0.5:8000") as remote:
        is_problem(remote.get("/v1/scans", headers={"Host": "localhost"}), 401, "key_required")


def test_binding_elsewhere_without_a_key_is_refused(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    with pytest.raises(ForbiddenError, match="keys_required"):
        prepare_database(settings, "0.0.0.0")
    prepare_database(settings, "127.0.0.1").dispose()
    from core.registry.keys import ApiKeyService

    database = prepare_database(settings)
    ApiKeyService(database).create("org_default", "first", ["read"])
    database.dispose()
    prepare_database(settings, "0.0.0.0").dispose()


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.1.2.3", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_addresses(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_keys_do_not_appear_in_the_log(client: TestClient, harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    upload(client, b"logged")
    client.get("/v1/nowhere")
    assert "/v1/nowhere" in caplog.text
    assert harness.key not in caplog.text
