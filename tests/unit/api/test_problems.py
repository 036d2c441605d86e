"""Every error is a problem document, and none is a 500 that tells secrets."""

import json
import logging
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.schemas import SubmitRequest
from core.errors import UnavailableError
from tests.support.http import Harness, is_problem, submit
from tests.unit.api.test_access import SCOPES, UNKNOWN, address

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "NONSENSE"]
PATHS = sorted({path for _, path in SCOPES} - {"/readyz"})  # which says 503 here: the queue is away
BODIES: list[tuple[bytes, str]] = [
    (b"", "application/json"),
    (b"\xff" * 100, "application/json"),
    (b'{"a":' * 1000, "application/json"),
    (b"x", "multipart/form-data; boundary=x"),
    (b"\x00" * 100, "application/octet-stream"),
    (b"a" * 2_000_000, "text/plain"),
]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", METHODS)
def test_any_method_anywhere(client: TestClient, method: str, path: str) -> None:
    for body, content_type in BODIES:
        answer = client.request(method, address(path, UNKNOWN), content=body, headers={"Content-Type": content_type})
        assert answer.status_code < 500, (method, path, body[:10], answer.text)
        if answer.status_code >= 400 and method != "HEAD":
            is_problem(answer, answer.status_code)


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/scans/", "/v1/scans/a/b", "/%00", "/" + "x" * 8000, "//", "/../x"]
)
def test_unknown_addresses(client: TestClient, path: str) -> None:
    is_problem(client.get(path), 404)


@pytest.mark.parametrize("value", ["\x00", "\ud800", "' OR 1=1 --", "${7*7}", "%s%n", "\u202e", "x" * 3000])
@pytest.mark.parametrize("path", ["/v1/scans/{}", "/v1/models/{}", "/v1/artifacts/{}", "/v1/gate?sha256={}"])
def test_odd_text_in_addresses(client: TestClient, path: str, value: str) -> None:
    from urllib.parse import quote

    answer = client.get(path.format(quote(value, safe="", errors="surrogatepass")))
    assert answer.status_code in (404, 422)
    is_problem(answer, answer.status_code)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=10,
)
SUBMISSIONS = st.fixed_dictionaries(
    {"model": st.fixed_dictionaries({"blob": st.sampled_from([UNKNOWN["sha256"], "x"]) | JSON_VALUES})},
    optional=dict.fromkeys(sorted({*SubmitRequest.model_fields, "hub"} - {"model"}), JSON_VALUES),
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(SUBMISSIONS | JSON_VALUES)
def test_no_json_is_too_much(client: TestClient, body: Any) -> None:
    text = json.dumps(body)
    answer = client.post("/v1/scans", content=text, headers={"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500, text
    is_problem(answer, answer.status_code)


def test_the_input_is_not_echoed(client: TestClient) -> None:
    answer = client.post("/v1/scans", json={"model": {"blob": "SECRET" * 100}, "x" * 500: 1})
    assert "SECRET" not in answer.text
    assert len(answer.text) < 3000


def test_many_errors_are_cut_off(client: TestClient) -> None:
    document = is_problem(client.post("/v1/scans", json={str(n): n for n in range(5000)}), 422)
    assert len(document["errors"]) <= 20


def test_the_unexpected_is_a_problem_without_internals(
    fresh: tuple[TestClient, Harness], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client, harness = fresh

    def explode(*_: Any) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr(type(harness.services.jobs), "get", explode)
    with caplog.at_level(logging.ERROR):
        answer = client.get(f"/v1/scans/{UNKNOWN['scan_id']}")
    document = is_problem(answer, 500, "internal_error")
    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    assert document["request_id"] in caplog.text


def test_an_absent_database_is_unavailable_not_broken(
    fresh: tuple[TestClient, Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, harness = fresh

    def away(*_: Any, **__: Any) -> None:
        raise UnavailableError("database_unavailable", "The database does not answer.")

    for name in ("get", "gate"):
        monkeypatch.setattr(type(harness.services.jobs), name, away)
    for path in (f"/v1/scans/{UNKNOWN['scan_id']}", f"/v1/gate?sha256={UNKNOWN['sha256']}"):
        answer = client.get(path)
        is_problem(answer, 503, "database_unavailable")
        assert answer.headers["retry-after"]


def test_a_broken_database_file_is_no_500_on_readyz(fresh: tuple[TestClient, Harness]) -> None:
    client, harness = fresh
    harness.services.database.engine.dispose()
    (harness.services.settings.data_dir / "assay.db").unlink()
    answer = client.get("/readyz", headers={"Authorization": ""})
    assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert client.get("/healthz").json()["status"] == "ok"


def test_an_absent_broker_delays_a_scan_and_shows_in_readyz(fresh: tuple[TestClient, Harness]) -> None:
    client, harness = fresh
    assert submit(client)["state"] == "queued"
    assert len(harness.services.jobs.due(10)) == 1  # the sweeper will announce it
    assert client.get("/readyz").json()["checks"] == {"database": "ok", "queue": "broker_unavailable", "storage": "ok"}


@pytest.mark.parametrize(("sent", "kept"), [("abc-123", True), ("x" * 65, False), ("a b", False), ("<script>", False)])
def test_request_ids(client: TestClient, sent: str, kept: bool) -> None:
    answer = client.get("/healthz", headers={"X-Request-ID": sent})
    assert (answer.headers["x-request-id"] == sent) is kept


def test_security_headers_are_everywhere(client: TestClient) -> None:
    for path in ("/healthz", "/nope", "/v1/scans"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"
    assert "content-security-policy" not in client.get("/docs").headers
