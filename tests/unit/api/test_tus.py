"""tus 1.0: what each request is answered, and what is left on the disk."""

import base64
import hashlib
import os
import re
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from api.routes import uploads
from core.errors import UnavailableError
from core.jobs.service import JobService
from tests.support.http import MIB, Harness, LiveServer, app_client, is_problem, sha256
from tests.support.processes import wait_until
from tests.support.tus import BYTES, VERSION, create, encoded, head, patch, unfinished

DATA = os.urandom(300_000)


@pytest.fixture(autouse=True)
def no_left_overs(request: pytest.FixtureRequest) -> Any:
    """Every test cleans up after itself by completing or deleting: what stays would count against the quota."""
    yield
    if "client" in request.fixturenames:
        client = request.getfixturevalue("client")
        for item in client.get("/v1/uploads").json()["items"]:
            assert client.delete(item["links"]["self"], headers=VERSION).status_code == 204


def test_options(client: TestClient, harness: Harness) -> None:
    answer = client.options("/v1/uploads")
    assert answer.status_code == 204
    assert answer.headers["tus-resumable"] == "1.0.0"
    assert answer.headers["tus-version"] == "1.0.0"
    assert answer.headers["tus-max-size"] == str(harness.services.settings.max_upload_bytes)
    assert set(answer.headers["tus-extension"].split(",")) == {
        "creation",
        "creation-with-upload",
        "expiration",
        "termination",
        "checksum",
    }


def test_from_creation_to_blob(client: TestClient, harness: Harness) -> None:
    metadata = f"sha256 {encoded(sha256(DATA))},filename {encoded('modèle.pth')},flag"
    answer = client.post(
        "/v1/uploads", headers={**VERSION, "Upload-Length": str(len(DATA)), "Upload-Metadata": metadata}
    )
    assert answer.status_code == 201
    address = answer.headers["location"]
    assert re.fullmatch(r"/v1/uploads/upload_[0-9a-z]{26}", address)
    expires = parsedate_to_datetime(answer.headers["upload-expires"])
    assert timedelta(hours=23) < expires - datetime.now(UTC) <= timedelta(hours=24)

    assert head(client, address) == 0
    assert patch(client, address, DATA[:100_000], 0).headers["upload-offset"] == "100000"
    asked = client.head(address, headers=VERSION)
    assert asked.headers["upload-length"] == str(len(DATA))
    assert asked.headers["upload-metadata"] == metadata
    assert asked.headers["cache-control"] == "no-store"
    assert "assay-blob" not in asked.headers
    assert client.get(address).json()["filename"] == "modèle.pth"

    last = patch(client, address, DATA[100_000:], 100_000)
    assert last.status_code == 204
    for said in (last, client.head(address, headers=VERSION)):
        assert said.headers["assay-blob"] == sha256(DATA)
        assert said.headers["upload-offset"] == str(len(DATA))
    shown = client.get(address).json()
    assert (shown["blob"], shown["offset"], shown["sha256"]) == (sha256(DATA), len(DATA), sha256(DATA))
    assert client.head(f"/v1/blobs/{sha256(DATA)}").status_code == 200
    assert harness.services.store.path(sha256(DATA)).read_bytes() == DATA
    assert unfinished(harness) == []
    assert client.get("/v1/uploads").json() == {"items": []}


def test_the_digest_need_not_be_announced(client: TestClient) -> None:
    address = create(client, 5)
    assert patch(client, address, b"12345", 0).headers["assay-blob"] == sha256(b"12345")


def test_the_first_bytes_may_come_with_the_creation(client: TestClient) -> None:
    headers = {**VERSION, **BYTES, "Upload-Length": "10"}
    answer = client.post("/v1/uploads", headers=headers, content=b"12345")
    assert (answer.status_code, answer.headers["upload-offset"]) == (201, "5")
    assert patch(client, answer.headers["location"], b"67890", 5).headers["assay-blob"] == sha256(b"1234567890")
    whole = client.post("/v1/uploads", headers=headers, content=b"abcdefghij")
    assert whole.headers["assay-blob"] == sha256(b"abcdefghij")


def test_an_empty_file_is_complete_at_once(client: TestClient) -> None:
    answer = client.post("/v1/uploads", headers={**VERSION, "Upload-Length": "0"})
    assert (answer.status_code, answer.headers["assay-blob"]) == (201, sha256(b""))


def test_an_upload_that_is_complete_can_be_asked_and_told_again(client: TestClient) -> None:
    address = create(client, 3)
    patch(client, address, b"abc", 0)
    again = patch(client, address, b"", 3)  # the first answer was lost
    assert (again.status_code, again.headers["assay-blob"]) == (204, sha256(b"abc"))
    is_problem(patch(client, address, b"abc", 0), 409, "offset_mismatch")
    is_problem(patch(client, address, b"d", 3), 413, "too_large")
    assert client.delete(address, headers=VERSION).status_code == 204
    assert client.head(address, headers=VERSION).status_code == 404
    assert client.head(f"/v1/blobs/{sha256(b'abc')}").status_code == 200


def test_a_wrong_digest_keeps_nothing(client: TestClient, harness: Harness) -> None:
    address = create(client, 5, sha256="1" * 64)
    document = is_problem(patch(client, address, b"other", 0), 422, "digest_mismatch")
    assert sha256(b"other") in document["detail"]
    assert client.head(address, headers=VERSION).status_code == 404
    assert client.head(f"/v1/blobs/{sha256(b'other')}").status_code == 404
    assert not harness.services.store.exists(sha256(b"other"))
    assert unfinished(harness) == []


def test_an_offset_that_is_not_the_servers(client: TestClient) -> None:
    address = create(client, 10)
    patch(client, address, b"1234", 0)
    for offset in (0, 3, 5, 10, 10**17):
        answer = patch(client, address, b"x", offset)
        is_problem(answer, 409, "offset_mismatch")
        assert answer.headers["upload-offset"] == "4"
        assert answer.headers["tus-resumable"] == "1.0.0"
    assert head(client, address) == 4


def test_more_bytes_than_announced(client: TestClient) -> None:
    address = create(client, 10)
    is_problem(patch(client, address, b"x" * 11, 0), 413, "too_large")
    assert head(client, address) == 0
    chunked = patch(client, address, iter([b"12345", b"67890", b"1"]), 0)
    is_problem(chunked, 413, "too_large")
    assert head(client, address) in (0, 10)


def test_deleting(client: TestClient, harness: Harness) -> None:
    address = create(client, 10)
    patch(client, address, b"1234", 0)
    assert unfinished(harness) != []
    assert client.delete(address, headers=VERSION).status_code == 204
    assert unfinished(harness) == []
    for answer in (client.delete(address, headers=VERSION), patch(client, address, b"5", 4), client.get(address)):
        is_problem(answer, 404, "upload_not_found")


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Upload-Length": "5"}, 412, "tus_version"),
        ({"Tus-Resumable": "0.2.2", "Upload-Length": "5"}, 412, "tus_version"),
        ({**VERSION}, 400, "invalid_upload_length"),
        *(
            ({**VERSION, "Upload-Length": value}, 400, "invalid_upload_length")
            for value in ("-1", "1.5", "0x10", "", "1" * 19, "5 5", "+5")
        ),
        ({**VERSION, "Upload-Defer-Length": "1"}, 400, "tus_extension"),
        ({**VERSION, "Upload-Length": "5", "Upload-Concat": "partial"}, 400, "tus_extension"),
        ({**VERSION, "Upload-Length": "5", "Upload-Metadata": "sha256 ???"}, 400, "invalid_metadata"),
        ({**VERSION, "Upload-Length": "5", "Upload-Metadata": "a YQ==,a YQ=="}, 400, "invalid_metadata"),
        ({**VERSION, "Upload-Length": "5", "Upload-Metadata": ",,"}, 400, "invalid_metadata"),
        ({**VERSION, "Upload-Length": "5", "Upload-Metadata": f"sha256 {encoded('A' * 64)}"}, 400, "invalid_metadata"),
        ({**VERSION, "Upload-Length": "5", "Upload-Metadata": "x" * 5000}, 400, "invalid_metadata"),
        ({**VERSION, "Upload-Length": str(8 * MIB + 1)}, 413, "too_large"),
    ],
    ids=str,
)
def test_creations_that_are_refused(client: TestClient, headers: dict[str, str], status: int, code: str) -> None:
    answer = client.post("/v1/uploads", headers=headers)
    is_problem(answer, status, code)
    assert answer.headers["tus-resumable"] == "1.0.0"
    if status == 412:
        assert answer.headers["tus-version"] == "1.0.0"
    assert client.get("/v1/uploads").json() == {"items": []}


def test_bodies_of_another_type(client: TestClient) -> None:
    is_problem(client.post("/v1/uploads", headers={**VERSION, "Upload-Length": "5"}, content=b"x"), 415)
    address = create(client, 5)
    is_problem(client.patch(address, headers={**VERSION, "Upload-Offset": "0"}, content=b"x"), 415)
    is_problem(client.patch(address, headers={**VERSION, **BYTES}, content=b"x"), 400, "invalid_upload_offset")
    assert head(client, address) == 0


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_of_one_request(client: TestClient, algorithm: str) -> None:
    def checksum(data: bytes) -> dict[str, str]:
        digest = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
        return {"Upload-Checksum": f"{algorithm} {digest}"}

    address = create(client, 6, sha256=sha256(b"abcdef"))
    assert patch(client, address, b"ab", 0, **checksum(b"ab")).status_code == 204
    answer = patch(client, address, b"xx", 2, **checksum(b"cd"))
    assert is_problem(answer, 460, "checksum_mismatch")["title"] == "Checksum Mismatch"
    assert head(client, address) == 2
    assert patch(client, address, b"cdef", 2, **checksum(b"cdef")).headers["assay-blob"] == sha256(b"abcdef")


@pytest.mark.parametrize("value", ["md5 YQ==", "sha1 YQ==", "sha1", "sha256 ???", ""])
def test_checksums_that_are_none(client: TestClient, value: str) -> None:
    address = create(client, 6)
    assert patch(client, address, b"ab", 0, **{"Upload-Checksum": value}).status_code == 400
    assert head(client, address) == 0


def test_methods_in_a_header(client: TestClient) -> None:
    address = create(client, 4)
    headers = {**VERSION, **BYTES, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert client.post(address, headers=headers, content=b"ab").headers["upload-offset"] == "2"
    asked = client.post(address, headers={**VERSION, "X-HTTP-Method-Override": "HEAD"})
    assert asked.headers["upload-offset"] == "2"
    is_problem(client.post(address, headers={**VERSION, "X-HTTP-Method-Override": "PUT"}), 405)
    assert client.post(address, headers={**VERSION, "X-HTTP-Method-Override": "DELETE"}).status_code == 204
    is_problem(client.get(address), 404)


def test_another_organisation_sees_nothing(client: TestClient, harness: Harness) -> None:
    address = create(client, 4)
    stranger = harness.new_org()[1]
    assert client.get("/v1/uploads", headers=stranger).json() == {"items": []}
    unknown = "/v1/uploads/upload_" + "0" * 26
    for method in ("HEAD", "GET", "PATCH", "DELETE"):
        headers = {**VERSION, **BYTES, **stranger, "Upload-Offset": "0"}
        foreign, none = (client.request(method, path, headers=headers) for path in (address, unknown))
        assert foreign.status_code == none.status_code == 404
        assert without_request(foreign) == without_request(none)
    assert head(client, address) == 0


def without_request(answer: Any) -> str:
    return re.sub(r'"request_id":"\w+"', "", answer.text)


def test_two_writers(live: LiveServer) -> None:
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer) as http:
        address = create(http, 100)
        connection = live.connect()
        connection.sendall(
            f"PATCH {address} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nTus-Resumable: 1.0.0\r\n"
            f"Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
            f"Authorization: {live.harness.bearer['Authorization']}\r\n\r\n".encode()
            + b"x" * 10
        )
        wait_until(lambda: address.rsplit("/", 1)[1] in unfinished(live.harness), 10, "the first writer")
        time.sleep(0.2)  # between its file and its lock
        is_problem(patch(http, address, b"y", 0), 423, "upload_locked")
        is_problem(http.delete(address, headers=VERSION), 423, "upload_locked")
        connection.close()  # what had come stays, and the lock goes
        wait_until(lambda: head(http, address) == 10, 10, "the first ten bytes")
        wait_until(lambda: patch(http, address, b"y" * 90, 10).status_code == 204, 10, "the rest")
        assert http.get(address).json()["blob"] == sha256(b"x" * 10 + b"y" * 90)


def test_a_connection_that_silently_broke_is_given_up_and_keeps_what_came(
    live: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "STALL_S", 0.3)
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer) as http:
        address = create(http, 100)
        with live.connect() as connection:
            connection.settimeout(10)
            connection.sendall(
                f"PATCH {address} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nTus-Resumable: 1.0.0\r\n"
                f"Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
                f"Authorization: {live.harness.bearer['Authorization']}\r\n\r\n1234567".encode()
            )
            assert b" 408 " in connection.recv(65536)
        assert head(http, address) == 7
        http.delete(address, headers=VERSION)


def test_open_uploads_are_limited(tmp_path: Path) -> None:
    with app_client(tmp_path / "data", max_open_uploads=2) as (client, harness):
        first = create(client, 10)
        create(client, 10)
        refused = client.post("/v1/uploads", headers={**VERSION, "Upload-Length": "1"})
        is_problem(refused, 429, "too_many_uploads")
        assert "retry-after" in refused.headers
        other = client.post("/v1/uploads", headers={**VERSION, **harness.new_org()[1], "Upload-Length": "1"})
        assert other.status_code == 201
        patch(client, first, b"0123456789", 0)  # a complete one is not open
        create(client, 10)


def test_stored_bytes_are_limited_whichever_way_they_come(tmp_path: Path) -> None:
    with app_client(tmp_path / "data", max_stored_bytes=1000) as (client, harness):
        create(client, 600)
        is_problem(client.post("/v1/uploads", headers={**VERSION, "Upload-Length": "401"}), 429, "quota_exceeded")
        address = create(client, 300)
        patch(client, address, b"x" * 300, 0)
        data = b"y" * 101
        is_problem(client.put(f"/v1/blobs/{sha256(data)}", content=data), 429, "quota_exceeded")
        is_problem(client.put(f"/v1/blobs/{sha256(data)}", content=iter([data])), 429, "quota_exceeded")
        is_problem(client.post("/v1/scans", files={"model": ("m", data)}), 429, "quota_exceeded")
        assert client.put(f"/v1/blobs/{sha256(data[:100])}", content=data[:100]).status_code == 201
        assert client.put(f"/v1/blobs/{sha256(data)}", content=data, headers=harness.new_org()[1]).status_code == 201


def test_the_reserve_is_kept_free(tmp_path: Path) -> None:
    with app_client(tmp_path / "data", free_space_reserve_bytes=1 << 60) as (client, _):
        is_problem(client.post("/v1/uploads", headers={**VERSION, "Upload-Length": "1"}), 507, "storage_full")


def test_a_disk_that_fills_up_keeps_what_came(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    address = create(client, 10)
    patch(client, address, b"1234", 0)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    is_problem(patch(client, address, b"567890", 4), 507, "storage_full")
    monkeypatch.undo()
    assert head(client, address) == 4
    assert patch(client, address, b"567890", 4).headers["assay-blob"] == sha256(b"1234567890")


def test_uploads_expire(client: TestClient, harness: Harness) -> None:
    address = create(client, 10)
    patch(client, address, b"1234", 0)
    with harness.services.database.begin() as session:
        session.execute(
            text("UPDATE upload SET expires_at = '2001-01-01 00:00:00' WHERE id = :id"), {"id": address[-33:]}
        )
    is_problem(patch(client, address, b"5", 4), 404, "upload_not_found")
    assert unfinished(harness) != []
    assert harness.services.jobs.expire_uploads() == 1
    assert unfinished(harness) == []


def test_bytes_without_an_upload_are_removed_when_they_are_old(client: TestClient, harness: Harness) -> None:
    address = create(client, 10)
    patch(client, address, b"1234", 0)
    folder = harness.services.settings.blobs_dir / "partial"
    (folder / "upload_orphan").write_bytes(b"x")
    (folder / "upload_young").write_bytes(b"x")
    for name in ("upload_orphan", address.rsplit("/", 1)[1]):
        os.utime(folder / name, (0, 0))
    assert harness.services.jobs.expire_uploads() == 1
    assert sorted(unfinished(harness)) == sorted([address.rsplit("/", 1)[1], "upload_young"])
    (folder / "upload_young").unlink()


def test_what_a_crash_left_complete_becomes_a_blob_when_asked(
    client: TestClient, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database went away between the last byte and the row."""
    address = create(client, 4, sha256=sha256(b"abcd"))

    def away(*_: object) -> None:
        raise UnavailableError("database_unavailable", "away")

    monkeypatch.setattr(JobService, "complete_upload", away)
    is_problem(patch(client, address, b"abcd", 0), 503, "database_unavailable")
    monkeypatch.undo()
    asked = client.head(address, headers=VERSION)
    assert (asked.headers["upload-offset"], asked.headers["assay-blob"]) == ("4", sha256(b"abcd"))
    assert unfinished(harness) == []


HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=60)


@given(
    method=st.sampled_from(["POST", "PATCH", "HEAD", "DELETE"]),
    junk=st.dictionaries(
        st.sampled_from(
            ["Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Checksum", "Upload-Concat", "Content-Type"]
        ),
        HEADER | st.integers().map(str) | st.binary(max_size=30).map(lambda data: f"sha256 {base64.b64encode(data)!r}"),
    ),
    body=st.binary(max_size=20),
)
@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_junk_is_answered_with_a_reason(client: TestClient, method: str, junk: dict[str, str], body: bytes) -> None:
    address = "/v1/uploads" if method == "POST" else "/v1/uploads/upload_" + "0" * 26
    headers = {**VERSION, **BYTES, **{name: value.encode("latin-1") for name, value in junk.items()}}
    answer = client.request(method, address, headers=headers, content=body)
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400 and method != "HEAD":
        is_problem(answer, answer.status_code)
    for item in client.get("/v1/uploads").json()["items"]:
        client.delete(item["links"]["self"], headers=VERSION)
