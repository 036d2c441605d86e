"""Models and lineage, the gate, and whether the service can work."""

from dataclasses import replace

import pytest
from fastapi import Response
from fastapi.testclient import TestClient

from api.routes.health import readyz
from core.domain import SandboxMode, Verdict
from tests.support.http import Harness, is_problem, sha256, submit
from worker import landlock, seccomp


def test_lineage_leads_both_ways(client: TestClient, harness: Harness) -> None:
    scan = submit(client, b"lineage")
    assert client.get(scan["links"]["model"]).json()["kind"] is None  # nobody has looked yet
    harness.finish(scan["id"], Verdict.BACKDOORED, purified=b"lineage-pure")
    suspect = client.get(scan["links"]["model"]).json()
    assert suspect["sha256"] == sha256(b"lineage")
    assert suspect["kind"] == "classifier"
    assert [item["id"] for item in suspect["scans"]] == [scan["id"]]
    (link,) = suspect["purified_to"]
    assert link["scan_id"] == scan["id"]
    purified = client.get(link["href"]).json()
    assert purified["sha256"] == sha256(b"lineage-pure") == link["sha256"]
    assert [item["model_id"] for item in purified["purified_from"]] == [suspect["id"]]
    assert client.get(purified["files"][0]["href"]).content == b"lineage-pure"


@pytest.mark.parametrize("model_id", ["x", "model_nope", "scan_" + "0" * 26, "%00", "m" * 4000])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_unknown_models(client: TestClient, method: str, model_id: str) -> None:
    is_problem(client.request(method, f"/v1/models/{model_id}"), 404, "model_not_found")


def test_a_model_with_a_live_scan_stays(client: TestClient) -> None:
    scan = submit(client, b"live-model")
    is_problem(client.delete(f"/v1/models/{scan['model']['id']}"), 409, "scan_live")


def ask(client: TestClient, data: bytes) -> tuple[bool, str, list[str]]:
    answer = client.get("/v1/gate", params={"sha256": sha256(data)})
    assert answer.status_code == 200
    document = answer.json()
    assert document["sha256"] == sha256(data)
    return document["allow"], document["decision"], [reason["code"] for reason in document["reasons"]]


def test_the_gate_says_no_until_it_has_a_reason_to_say_yes(client: TestClient, harness: Harness) -> None:
    assert ask(client, b"gate-x") == (False, "quarantine", ["unknown"])
    scan = submit(client, b"gate-x")
    assert ask(client, b"gate-x") == (False, "quarantine", ["pending"])
    harness.finish(scan["id"], Verdict.CLEAN)
    assert ask(client, b"gate-x") == (True, "allow", ["clean_verified"])
    worse = submit(client, b"gate-x", seed=1)
    harness.finish(worse["id"], Verdict.BACKDOORED, purified=b"gate-x-pure")
    assert ask(client, b"gate-x") == (False, "block", ["backdoored"])
    assert ask(client, b"gate-x-pure") == (True, "allow", ["purified_verified"])


def test_a_fast_scan_does_not_acquit(client: TestClient, harness: Harness) -> None:
    scan = submit(client, b"gate-fast", preset="fast")
    harness.finish(scan["id"], Verdict.CLEAN)
    assert ask(client, b"gate-fast") == (False, "quarantine", ["preset_too_low"])


@pytest.mark.parametrize("query", ["", "?sha256=", "?sha256=x", f"?sha256={'A' * 64}", f"?digest={'0' * 64}"])
def test_the_gate_wants_a_digest(client: TestClient, query: str) -> None:
    is_problem(client.get(f"/v1/gate{query}"), 422, "invalid_request")


def test_a_required_sandbox_shows_in_readyz(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"broker_url": None, "sandbox": SandboxMode.REQUIRED}
    services = replace(harness.services, settings=harness.services.settings.model_copy(update=changes))
    monkeypatch.setattr(seccomp, "unavailable", lambda: "")
    monkeypatch.setattr(landlock, "version", lambda: 1)
    assert readyz(Response(), services).checks["sandbox"] == "ok"
    monkeypatch.setattr(landlock, "version", lambda: 0)
    response = Response()
    assert readyz(response, services).checks["sandbox"] == "sandbox_unavailable"
    assert response.status_code == 503


def test_health_needs_no_key(client: TestClient) -> None:
    del client.headers["Authorization"]
    assert client.get("/healthz").json()["status"] == "ok"
    answer = client.get("/readyz")
    assert set(answer.json()["checks"]) == {"database", "queue", "storage"}
