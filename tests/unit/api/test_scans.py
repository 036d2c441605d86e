"""Submitting, looking, waiting, canceling, deleting."""

import json
import threading
import time
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from core.domain import Stage, Verdict
from core.registry.ids import DEFAULT_ORG
from tests.support.http import Harness, LiveServer, is_problem, sha256, submit, temp_files, upload

UNKNOWN_DIGEST = "0" * 64


def test_submit_answers_accepted_with_location_and_links(client: TestClient) -> None:
    model = upload(client, b"submit-1")
    answer = client.post("/v1/scans", json={"model": {"blob": model, "filename": "a.pth"}, "reference_set": None})
    assert answer.status_code == 202
    scan = answer.json()
    assert answer.headers["location"] == f"/v1/scans/{scan['id']}" == scan["links"]["self"]
    assert answer.headers["retry-after"]
    assert (scan["state"], scan["verdict"], scan["reused"]) == ("queued", None, False)
    assert scan["model"]["sha256"] == model
    assert scan["model"]["filename"] == "a.pth"
    assert scan["links"]["cancel"].endswith("/cancel")
    assert "report" not in scan["links"]


def test_the_same_question_is_answered_by_the_same_scan(client: TestClient, harness: Harness) -> None:
    first = submit(client, b"same")
    again = submit(client, b"same")
    assert (again["id"], again["reused"]) == (first["id"], True)
    assert submit(client, b"same", seed=1)["id"] != first["id"]
    harness.finish(first["id"])
    after = submit(client, b"same")
    assert (after["id"], after["reused"], after["verdict"]) == (first["id"], True, "clean")
    forced = submit(client, b"same", force=True)
    assert (forced["id"] != first["id"], forced["reused"]) == (True, False)


def test_options_reach_the_configuration(client: TestClient) -> None:
    preprocess = {"mean": [0.5], "std": [0.25], "size": [28, 28]}
    options = {"architecture": "resnet20", "preset": "fast", "purify": "never", "seed": 7, "preprocess": preprocess}
    scan = submit(client, b"options", **options)
    config = scan["config"]
    assert config["preprocess"] == preprocess
    assert [config[k] for k in ("architecture", "preset", "purify", "seed")] == ["resnet20", "fast", "never", 7]


def test_the_kind_is_what_the_files_say_unless_it_is_asked_for(client: TestClient) -> None:
    config = submit(client, b"kind by itself")["config"]
    assert (config["kind"], config["vocabulary"], config["templates"]) == ("auto", [], [])


def test_names_and_prompts_of_a_clip(client: TestClient) -> None:
    """As JSON, and in the ways a form field has: what is asked for is the same."""
    names, prompts = ["a red circle", "sea, sand"], ["a photo of a {}.", "{}"]
    body = {"model": {"blob": upload(client, b"names")}, "kind": "clip", "vocabulary": names, "templates": prompts}
    asked = client.post("/v1/scans", json=body).json()
    assert (asked["config"]["vocabulary"], asked["config"]["templates"]) == (names, prompts)
    for vocabulary in (" a red\tcircle \r\n\nsea, sand\n", json.dumps(names)):
        fields = {"kind": "clip", "vocabulary": vocabulary, "templates": "a photo of a {}.\n{}"}
        again = client.post("/v1/scans", files={"model": ("m", b"names")}, data=fields).json()
        assert (again["id"], again["reused"]) == (asked["id"], True)
    commas = client.post("/v1/scans", files={"model": ("m", b"names")}, data={"vocabulary": "sea, sand"}).json()
    assert commas["config"]["vocabulary"] == ["sea", "sand"]


def test_purification_without_reference_is_refused_at_once(client: TestClient) -> None:
    model = upload(client, b"no-reference")
    body = {"model": {"blob": model}, "reference_set": None, "purify": "always"}
    is_problem(client.post("/v1/scans", json=body), 422, "reference_required")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": {"blob": "M"}, "kind": "classifier", "vocabulary": ["a", "b"]}, "invalid_vocabulary"),
        ({"model": {"blob": "M"}, "kind": "classifier", "templates": ["a {}"]}, "invalid_vocabulary"),
        ({"model": {"hf": "org/name"}}, "unsupported_source"),
        ({"model": {"url": "https://example.org/x"}}, "unsupported_source"),
        ({"model": {"blob": "M"}, "reference_set": {"path": "/etc/passwd"}}, "unsupported_source"),
    ],
)
def test_what_is_not_there_says_so(client: TestClient, body: dict[str, Any], code: str) -> None:
    body = {**body, "model": {k: upload(client, b"m") if v == "M" else v for k, v in body["model"].items()}}
    is_problem(client.post("/v1/scans", json=body), 422, code)


GOOD: dict[str, Any] = {"model": {"blob": sha256(b"bad-input")}}


@pytest.mark.parametrize(
    "change",
    [
        {"model": None},
        {"model": {}},
        {"model": []},
        {"model": {"blob": 7}},
        {"model": {"blob": "A" * 64}},
        {"model": {"blob": "0" * 63}},
        {"model": {"blob": sha256(b"bad-input") + "\n"}},
        {"model": {"blob": sha256(b"bad-input"), "filename": ""}},
        {"model": {"blob": sha256(b"bad-input"), "filename": "x" * 5000}},
        {"model": {"blob": sha256(b"bad-input"), "org_id": "org_x"}},
        {"reference_set": "auto"},
        {"reference_set": {"blob": None}},
        {"kind": "detector"},
        {"kind": None},
        {"vocabulary": "cat"},
        {"vocabulary": ["cat"]},
        {"vocabulary": ["cat", "dog", "Cat"]},
        {"vocabulary": ["cat", " "]},
        {"vocabulary": ["cat", "do\0g"]},
        {"vocabulary": ["cat", "x" * 101]},
        {"vocabulary": [f"name {i}" for i in range(1001)]},
        {"templates": ["a photo"]},
        {"templates": ["{} and {}"]},
        {"templates": ["a {}", "a  {}"]},
        {"templates": ["{}" + "x" * 200]},
        {"architecture": ""},
        {"architecture": "a b"},
        {"architecture": "x" * 101},
        {"architecture": 18},
        {"preprocess": "imagenet"},
        {"preprocess": {"mean": [0.5], "std": [0.5]}},
        {"preprocess": {"mean": [0.5], "std": [0.0], "size": [28, 28]}},
        {"preprocess": {"mean": [0.5, 0.5], "std": [0.5], "size": [28, 28]}},
        {"preprocess": {"mean": [1e308], "std": [0.5], "size": [28, 28]}},
        {"preprocess": {"mean": [0.5], "std": [0.5], "size": [0, 28]}},
        {"preprocess": {"mean": [0.5], "std": [0.5], "size": [28, 28, 28]}},
        {"preprocess": {"mean": [0.5], "std": [0.5], "size": [99999, 28]}},
        {"purify": "sometimes"},
        {"preset": "best"},
        {"preset": None},
        {"seed": -1},
        {"seed": 1.5},
        {"seed": "0"},
        {"seed": True},
        {"seed": 2**53},
        {"seed": 10**400},
        {"force": 1},
        {"force": "true"},
        {"org_id": "org_other"},
        {"state": "succeeded"},
        {"verdict": "clean"},
    ],
    ids=lambda change: str(change)[:60],
)
def test_wrong_fields_are_named(client: TestClient, change: dict[str, Any]) -> None:
    upload(client, b"bad-input")
    document = is_problem(client.post("/v1/scans", json={**GOOD, **change}), 422, "invalid_request")
    assert document["errors"][0]["field"].startswith(f"body.{next(iter(change))}")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"text"',
        b"NaN",
        b'{"model": NaN}',
        b"[" * 100_000,
        b'{"a":' * 50_000,
        b"1" * 10_000,
        b'{"model": {"blob": "\\ud800"}}',
        b"\x00" * 1000,
    ],
    ids=lambda body: repr(body[:16]),
)
def test_junk_instead_of_json(client: TestClient, body: bytes) -> None:
    answer = client.post("/v1/scans", content=body, headers={"content-type": "application/json"})
    is_problem(answer, answer.status_code)
    assert answer.status_code in (400, 422)


def test_a_huge_json_body_is_cut_off(client: TestClient) -> None:
    body = b'{"model": {"blob": "' + b"x" * 1_000_000 + b'"}}'
    answer = client.post("/v1/scans", content=body, headers={"content-type": "application/json"})
    is_problem(answer, 413, "too_large")


@pytest.mark.parametrize("content_type", [None, "text/plain", "application/x-www-form-urlencoded", "\x7f;;"])
def test_other_media_types_are_refused(client: TestClient, content_type: str | None) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    is_problem(client.post("/v1/scans", content=b"{}", headers=headers), 415, "unsupported_media_type")


def test_blobs_must_have_been_uploaded(client: TestClient) -> None:
    is_problem(client.post("/v1/scans", json={"model": {"blob": UNKNOWN_DIGEST}}), 404, "blob_not_found")
    model = upload(client, b"has-model")
    body = {"model": {"blob": model}, "reference_set": {"blob": UNKNOWN_DIGEST}}
    is_problem(client.post("/v1/scans", json=body), 404, "blob_not_found")


def test_file_names_are_for_display_only(client: TestClient) -> None:
    model = upload(client, b"names")
    name = "../../etc/\u202epasswd\x00\n.pth"
    answer = client.post("/v1/scans", json={"model": {"blob": model, "filename": name}})
    assert answer.json()["model"]["filename"] == "passwd.pth"


def test_one_form_uploads_and_submits(client: TestClient, harness: Harness) -> None:
    files = {"model": ("net.pth", b"form-model"), "reference": ("images.zip", b"form-reference")}
    fields = {"seed": "3", "preset": "fast", "purify": "never", "preprocess": '{"mean":[0],"std":[1],"size":[8,8]}'}
    answer = client.post("/v1/scans", files=files, data=fields)
    assert answer.status_code == 202, answer.text
    scan = answer.json()
    assert scan["model"]["sha256"] == sha256(b"form-model")
    assert scan["model"]["filename"] == "net.pth"
    assert scan["reference_set"]["sha256"] == sha256(b"form-reference")
    assert (scan["config"]["seed"], scan["preset"]) == (3, "fast")
    assert scan["config"]["preprocess"]["size"] == [8, 8]
    assert temp_files(harness) == []


@pytest.mark.parametrize(
    ("files", "fields", "code"),
    [
        ({"reference": ("r.zip", b"x")}, {}, "invalid_form"),
        ({"model": ("m", b"x"), "weights": ("w", b"x")}, {}, "invalid_form"),
        ({"model": ("m", b"x")}, {"owner": "me"}, "invalid_form"),
        ({"model": ("m", b"x")}, {"seed": "minus one"}, "invalid_request"),
        ({"model": ("m", b"x")}, {"seed": "9" * 30}, "invalid_request"),
        ({"model": ("m", b"x")}, {"force": "yes"}, "invalid_request"),
        ({"model": ("m", b"x")}, {"preprocess": "{"}, "invalid_request"),
        ({"model": ("m", b"x")}, {"preprocess": "[" * 10_000}, "invalid_request"),
        ({"model": ("m", b"x")}, {"architecture": "x" * 20_000}, "invalid_form"),
        ({"model": ("m", b"x")}, {"vocabulary": "[1, 2]"}, "invalid_request"),
        ({"model": ("m", b"x")}, {"vocabulary": "[" * 10_000}, "invalid_request"),
        ({"model": ("m", b"x")}, {"templates": "[}"}, "invalid_request"),
        ({"model": ("m", b"x")}, {"purify": "always"}, "reference_required"),
    ],
)
def test_a_bad_form_keeps_nothing(
    fresh: tuple[TestClient, Harness], files: Any, fields: dict[str, str], code: str
) -> None:
    client, harness = fresh
    is_problem(client.post("/v1/scans", files=files, data=fields), 422, code)
    assert temp_files(harness) == []
    assert list(harness.services.store.iter()) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"junk",
        b"--B\r\n",
        b"--B--\r\n",
        b'--B\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nhalf',
        b"--B\r\nContent-Disposition: attachment\r\n\r\nx\r\n--B--\r\n",
        b"--B\r\n" + b"X: " + b"y" * 100_000 + b"\r\n\r\nx\r\n--B--\r\n",
        b'--B\r\nContent-Disposition: form-data; name="seed"\r\n\r\n\xff\r\n--B--\r\n',
        b'--B\r\nContent-Disposition: form-data; name="seed"\r\n\r\n1\r\n' * 2 + b"--B--\r\n",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_junk_instead_of_a_form(client: TestClient, harness: Harness, body: bytes) -> None:
    answer = client.post("/v1/scans", content=body, headers={"content-type": "multipart/form-data; boundary=B"})
    is_problem(answer, 422, "invalid_form")
    assert temp_files(harness) == []


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'b' * 300}"])
def test_a_form_needs_a_boundary(client: TestClient, boundary: str) -> None:
    answer = client.post("/v1/scans", content=b"x", headers={"content-type": f"multipart/form-data{boundary}"})
    is_problem(answer, 422, "invalid_form")


def test_a_file_of_a_form_is_capped(fresh: tuple[TestClient, Harness]) -> None:
    client, harness = fresh
    limit = harness.services.settings.max_upload_bytes
    answer = client.post("/v1/scans", files={"model": ("m", b"x" * (limit + 1))})
    is_problem(answer, 413, "too_large")
    assert temp_files(harness) == []


def test_list_is_paged_newest_first_and_filtered(fresh: tuple[TestClient, Harness]) -> None:
    client, harness = fresh
    made = [submit(client, f"page-{n}".encode())["id"] for n in range(5)]
    harness.finish(made[0], Verdict.BACKDOORED)
    seen: list[str] = []
    address: str | None = "/v1/scans?limit=2"
    while address is not None:
        answer = client.get(address)
        seen += [item["id"] for item in answer.json()["items"]]
        link = answer.headers.get("link")
        address = link[1 : link.index(">")] if link else None
        assert ("rel" in (link or "")) == (answer.json()["next_cursor"] is not None)
    assert seen == made[::-1]
    by_verdict = client.get("/v1/scans", params={"verdict": "backdoored"}).json()["items"]
    assert [item["id"] for item in by_verdict] == [made[0]]
    by_model = client.get("/v1/scans", params={"model_sha256": sha256(b"page-3")}).json()["items"]
    assert [item["id"] for item in by_model] == [made[3]]
    assert len(client.get("/v1/scans", params={"state": "queued"}).json()["items"]) == 4


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=201",
        "limit=x",
        "state=done",
        "verdict=ok",
        "model_sha256=abc",
        "cursor=nonsense",
        "cursor=%00",
        "cursor=scan_%00",
        "cursor=" + "x" * 600,
    ],
)
def test_wrong_filters(client: TestClient, query: str) -> None:
    is_problem(client.get(f"/v1/scans?{query}"), 422)


@pytest.mark.parametrize("scan_id", ["scan_nope", "x", "scan_" + "0" * 26, "%00", "..%2F..", "scan_%FF", "s" * 5000])
@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("GET", "/report"), ("POST", "/cancel"), ("DELETE", "")])
def test_unknown_scans(client: TestClient, method: str, suffix: str, scan_id: str) -> None:
    is_problem(client.request(method, f"/v1/scans/{scan_id}{suffix}"), 404)


def test_a_finished_scan_shows_verdict_report_and_artifacts(client: TestClient, harness: Harness) -> None:
    scan = submit(client, b"finished")
    harness.finish(scan["id"], Verdict.BACKDOORED, purified=b"pure")
    shown = client.get(f"/v1/scans/{scan['id']}").json()
    assert (shown["state"], shown["verdict"], shown["score"]) == ("succeeded", "backdoored", 2.5)
    assert shown["statistics"][0]["name"] == "energy_gap"
    assert shown["purification"] == {"status": "published"}
    assert shown["links"]["purified_original"] == f"/v1/artifacts/{sha256(b'pure')}"
    assert "cancel" not in shown["links"]
    report = client.get(shown["links"]["report"])
    assert report.status_code == 200
    assert report.json()["detection"]["verdict"] == "backdoored"


def test_a_failed_scan_shows_why_and_no_verdict(client: TestClient, harness: Harness) -> None:
    scan = submit(client, b"failing")
    harness.services.jobs.fail(harness.claim(scan["id"]), "not_a_model", "This is no checkpoint.", "Send one.")
    shown = client.get(f"/v1/scans/{scan['id']}").json()
    assert (shown["state"], shown["verdict"]) == ("failed", None)
    assert shown["error"] == {"code": "not_a_model", "detail": "This is no checkpoint.", "hint": "Send one."}
    is_problem(client.get(f"/v1/scans/{scan['id']}/report"), 404, "report_not_found")


def test_cancel(client: TestClient, harness: Harness) -> None:
    queued = submit(client, b"cancel-queued")
    answer = client.post(f"/v1/scans/{queued['id']}/cancel")
    assert (answer.status_code, answer.json()["state"]) == (202, "canceled")
    running = submit(client, b"cancel-running")
    claim = harness.claim(running["id"])
    answer = client.post(f"/v1/scans/{running['id']}/cancel")
    assert (answer.json()["state"], answer.json()["cancel_requested"]) == ("running", True)
    assert harness.services.jobs.canceled(claim)
    done = submit(client, b"cancel-done")
    harness.finish(done["id"])
    is_problem(client.post(f"/v1/scans/{done['id']}/cancel"), 409, "scan_finished")


def test_delete_scan(client: TestClient, harness: Harness) -> None:
    scan = submit(client, b"delete-scan")
    is_problem(client.delete(f"/v1/scans/{scan['id']}"), 409, "scan_live")
    harness.finish(scan["id"])
    answer = client.delete(f"/v1/scans/{scan['id']}")
    assert (answer.status_code, answer.content) == (204, b"")
    is_problem(client.get(f"/v1/scans/{scan['id']}"), 404, "scan_not_found")


@pytest.mark.parametrize("wait", ["-1", "61", "x", "nan", "inf", "1e400"])
def test_wrong_waits(client: TestClient, wait: str) -> None:
    scan = submit(client, b"wrong-wait")
    is_problem(client.get(f"/v1/scans/{scan['id']}", params={"wait": wait}), 422, "invalid_request")


def test_wait_returns_at_the_timeout_with_the_state_as_it_is(live: LiveServer) -> None:
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer) as client:
        scan = submit(client, b"wait-timeout")  # type: ignore[arg-type]
        began = time.monotonic()
        answer = client.get(f"/v1/scans/{scan['id']}?wait=0.6")
        assert 0.5 < time.monotonic() - began < 5
        assert answer.json()["state"] == "queued"
        assert answer.headers["retry-after"]


def test_wait_returns_when_the_stage_changes_and_blocks_nobody(live: LiveServer) -> None:
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer, timeout=90) as client:
        scan = submit(client, b"wait-change")  # type: ignore[arg-type]
        claim = live.harness.claim(scan["id"])
        answers: list[dict[str, Any]] = []

        def wait() -> None:
            with httpx2.Client(base_url=live.address, headers=live.harness.bearer, timeout=90) as own:
                answers.append(own.get(f"/v1/scans/{scan['id']}?wait=60").json())

        threads = [threading.Thread(target=wait) for _ in range(12)]
        for thread in threads:
            thread.start()
        time.sleep(1.0)
        began = time.monotonic()
        assert client.get("/healthz").status_code == 200
        assert time.monotonic() - began < 20
        assert answers == []
        live.harness.services.jobs.renew(claim, Stage.INVERTING, 0.3, None)
        for thread in threads:
            thread.join(50)
        assert [answer["stage"] for answer in answers] == ["inverting"] * 12
        live.harness.services.jobs.fail(claim, "x", "x")
        began = time.monotonic()
        client.get(f"/v1/scans/{scan['id']}?wait=20")  # over: answered at once
        assert time.monotonic() - began < 15


def test_the_organisation_is_not_shown(client: TestClient) -> None:
    assert DEFAULT_ORG not in client.get("/v1/scans").text
