"""Reference sets: made, looked through by a real child, listed, used, deleted."""

import io
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from api.routes import reference_sets
from tests.support.checkpoints import png, reference_zip
from tests.support.http import Harness, is_problem, sha256, submit, upload


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return reference_zip(tmp_path_factory.mktemp("zip") / "r.zip", 20).read_bytes()


def make(client: TestClient, name: str, **source: Any) -> Any:
    return client.post("/v1/reference-sets", json={"name": name, **source})


def test_from_an_archive(client: TestClient, archive: bytes) -> None:
    answer = make(client, "archive", blob=upload(client, archive))
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert answer.headers["location"] == made["links"]["self"] == f"/v1/reference-sets/{made['id']}"
    assert made["sha256"] == sha256(archive)
    assert made["size_bytes"] == len(archive)
    assert made["source"] == {"blob": sha256(archive)}
    facts = made["facts"]
    assert (facts["images"], facts["images_used"], facts["rejected"]) == (20, 20, [])
    assert (facts["label_kind"], facts["classes_total"]) == ("index", 10)
    assert facts["classes"][3] == {"label": "3", "index": 3, "images": 2}
    assert facts["sizes"] == {"smallest_side": 32, "largest_side": 32}
    assert client.get(made["links"]["self"]).json() == made


def test_the_same_name_is_the_same_set_or_a_conflict(client: TestClient, archive: bytes, tmp_path: Path) -> None:
    first = make(client, "twice", blob=upload(client, archive)).json()
    again = make(client, "twice", blob=sha256(archive))
    assert (again.status_code, again.json()["id"]) == (200, first["id"])
    other = upload(client, reference_zip(tmp_path / "o.zip", 30).read_bytes())
    assert first["id"] in is_problem(make(client, "twice", blob=other), 409, "reference_set_exists")["hint"]


def images(client: TestClient, count: int, label: Any = lambda i: i % 2) -> list[dict[str, Any]]:
    return [{"blob": upload(client, png(i)), "filename": f"{i}.png", "label": label(i)} for i in range(count)]


def test_from_single_images(client: TestClient, harness: Harness) -> None:
    asked = [*images(client, 12, lambda i: ["cat", "dog, big"][i % 2]), {**images(client, 1)[0], "label": None}]
    asked.append({"blob": upload(client, b"no image"), "filename": "x.png", "label": "cat"})
    made = make(client, "single", images=asked).json()
    assert made["source"] == {"images": 14}
    facts = made["facts"]
    assert (facts["images_used"], facts["label_kind"], facts["rejected_total"]) == (12, "name", 2)
    assert [item["label"] for item in facts["classes"]] == ["cat", "dog, big"]
    assert {item["code"] for item in facts["rejected"]} == {"label_missing", "image_format"}
    with zipfile.ZipFile(io.BytesIO(harness.services.store.path(made["sha256"]).read_bytes())) as archive:
        assert archive.read("00003-3.png") == png(3)
    assert make(client, "single again", images=asked).json()["sha256"] == made["sha256"]


def test_single_images_with_captions(client: TestClient) -> None:
    asked = [{**item, "caption": f'a "quoted", {number % 3}'} for number, item in enumerate(images(client, 12))]
    asked.append({**images(client, 1)[0], "filename": "untold.png"})
    facts = make(client, "captioned", images=asked).json()["facts"]
    assert (facts["images_used"], facts["labelled"], facts["captioned"]) == (13, True, 12)
    assert (facts["captions_distinct"], facts["captions_source"]) == (3, "captions.csv")
    assert [item["code"] for item in facts["rejected"]] == ["caption_missing"]


def test_without_labels(client: TestClient) -> None:
    facts = make(client, "unlabelled", images=images(client, 10, lambda _: None)).json()["facts"]
    assert (facts["labelled"], facts["label_kind"], facts["classes"]) == (False, None, [])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"no zip", "unsupported_reference_format"),
        (b"PK\x03\x04cut", "invalid_archive"),
        (b"", "unsupported_reference_format"),
    ],
)
def test_archives_that_are_none(client: TestClient, content: bytes, code: str) -> None:
    is_problem(make(client, "none", blob=upload(client, content)), 422, code)


def test_a_set_with_too_little_in_it_says_why(client: TestClient) -> None:
    asked = [*images(client, 8), {"blob": upload(client, b"GIF89a"), "filename": "moving.png", "label": 0}]
    document = is_problem(make(client, "small", images=asked), 422, "reference_too_small")
    assert "GIF" in document["detail"]
    assert all(item["name"] != "small" for item in client.get("/v1/reference-sets").json()["items"])


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"name": "x"}, 422, "invalid_request"),
        ({"name": "x", "blob": "0" * 64, "images": []}, 422, "invalid_request"),
        ({"blob": "0" * 64}, 422, "invalid_request"),
        ({"name": "", "blob": "0" * 64}, 422, "invalid_request"),
        ({"name": "a/b", "blob": "0" * 64}, 422, "invalid_request"),
        ({"name": "a\u202eb", "blob": "0" * 64}, 422, "invalid_request"),
        ({"name": "x", "blob": "0" * 64, "org_id": "org_x"}, 422, "invalid_request"),
        ({"name": "x", "url": "http://example.com/x.zip"}, 422, "invalid_request"),
        ({"name": "x", "images": [{"blob": "0" * 64, "filename": "a.png", "label": -1}]}, 422, "invalid_request"),
        ({"name": "x", "images": [{"blob": "0" * 64, "filename": "a.png", "label": 1.5}]}, 422, "invalid_request"),
        ({"name": "x", "images": [{"blob": "0" * 64, "filename": "a.png", "label": True}]}, 422, "invalid_request"),
        ({"name": "x", "images": [{"blob": "0" * 64, "filename": "a.png", "caption": " "}]}, 422, "invalid_request"),
        (
            {"name": "x", "images": [{"blob": "0" * 64, "filename": "a.png", "caption": "x" * 1001}]},
            422,
            "invalid_request",
        ),
        ({"name": "x", "blob": "0" * 64}, 404, "blob_not_found"),
        ({"name": "x", "images": [{"blob": "0" * 64, "filename": "a.png"}]}, 404, "blob_not_found"),
    ],
    ids=str,
)
def test_bodies_that_are_refused(client: TestClient, body: dict[str, Any], status: int, code: str) -> None:
    is_problem(client.post("/v1/reference-sets", json=body), status, code)


def test_pages(client: TestClient, archive: bytes) -> None:
    digest = upload(client, archive)
    names = [f"page {i}" for i in range(3)]
    for name in names:
        assert make(client, name, blob=digest).status_code == 201
    first = client.get("/v1/reference-sets?limit=2")
    assert [item["name"] for item in first.json()["items"]] == ["page 2", "page 1"]
    following = client.get(first.links["next"]["url"]).json()
    assert following["items"][0]["name"] == "page 0"


def test_used_in_a_scan_and_deleted(client: TestClient, archive: bytes, tmp_path: Path) -> None:
    own = reference_zip(tmp_path / "own.zip", 24).read_bytes()
    made = make(client, "used", blob=upload(client, own)).json()
    body = {"model": {"blob": upload(client, b"a model")}, "reference_set": {"set": made["id"]}}
    scan = client.post("/v1/scans", json=body).json()
    assert scan["reference_set"] == {"sha256": made["sha256"]}
    by_blob = client.post("/v1/scans", json={**body, "reference_set": {"blob": made["sha256"]}}).json()
    assert (by_blob["id"], by_blob["reused"]) == (scan["id"], True)

    assert client.delete(made["links"]["self"]).status_code == 204
    is_problem(client.get(made["links"]["self"]), 404, "reference_set_not_found")
    is_problem(client.post("/v1/scans", json=body), 404, "reference_set_not_found")
    assert client.head(f"/v1/blobs/{made['sha256']}").status_code == 200  # the scan has it


def test_a_deleted_set_takes_its_images_along(client: TestClient, harness: Harness, tmp_path: Path) -> None:
    own = reference_zip(tmp_path / "own.zip", 26).read_bytes()
    first = make(client, "a", blob=upload(client, own)).json()
    second = make(client, "b", blob=first["sha256"]).json()
    client.delete(first["links"]["self"])
    assert harness.services.store.exists(first["sha256"])  # the other set has it
    client.delete(second["links"]["self"])
    assert not harness.services.store.exists(first["sha256"])
    assert client.head(f"/v1/blobs/{first['sha256']}").status_code == 404


def test_a_model_that_is_deleted_leaves_the_sets(client: TestClient, harness: Harness, archive: bytes) -> None:
    made = make(client, "outlives", blob=upload(client, archive)).json()
    scan = submit(client, b"short-lived", archive)
    harness.finish(scan["id"])
    assert client.delete(f"/v1/models/{scan['model']['id']}").status_code == 204
    assert client.get(made["links"]["self"]).status_code == 200
    assert harness.services.store.exists(made["sha256"])


@pytest.mark.parametrize("reference", [{}, {"set": "refset_x", "blob": "0" * 64}, {"set": "x y"}, {"set": 7}], ids=str)
def test_references_that_are_none(client: TestClient, reference: dict[str, Any]) -> None:
    body = {"model": {"blob": upload(client, b"m")}, "reference_set": reference}
    is_problem(client.post("/v1/scans", json=body), 422, "invalid_request")


def test_another_organisation(client: TestClient, harness: Harness, archive: bytes) -> None:
    made = make(client, "mine", blob=upload(client, archive)).json()
    stranger = harness.new_org()[1]
    assert client.get("/v1/reference-sets", headers=stranger).json()["items"] == []
    is_problem(
        client.post("/v1/reference-sets", json={"name": "x", "blob": made["sha256"]}, headers=stranger),
        404,
        "blob_not_found",
    )
    digest = sha256(b"theirs")
    client.put(f"/v1/blobs/{digest}", content=b"theirs", headers=stranger)
    body = {"model": {"blob": digest}, "reference_set": {"set": made["id"]}}
    is_problem(client.post("/v1/scans", json=body, headers=stranger), 404, "reference_set_not_found")
    # A name of ours is free for them.
    client.put(f"/v1/blobs/{sha256(archive)}", content=archive, headers=stranger)
    theirs = client.post("/v1/reference-sets", json={"name": "mine", "blob": sha256(archive)}, headers=stranger)
    assert theirs.status_code == 201
    assert theirs.json()["id"] != made["id"]


def test_no_more_than_a_few_are_looked_through_at_once(client: TestClient, archive: bytes) -> None:
    digest = upload(client, archive)
    with ExitStack() as held:
        for _ in range(reference_sets._slots.count):
            held.enter_context(reference_sets._slots.one())
        busy = make(client, "busy", blob=digest)
    is_problem(busy, 503, "checks_busy")
    assert "retry-after" in busy.headers


def test_nothing_is_left_in_the_work_folder(client: TestClient, harness: Harness) -> None:
    assert list((harness.services.settings.data_dir / "work").iterdir()) == []
