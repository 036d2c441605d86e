"""Downloads: verified before the first byte, in ranges, with what is known about the model."""

import base64
import hashlib
import os
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from api import downloads
from api.downloads import Verifier
from core.domain import Verdict
from core.errors import IntegrityError
from core.storage.local import LocalBlobStore
from tests.support.http import MIB, Harness, LiveServer, is_problem, sha256, submit, upload

DATA = bytes(range(256)) * 40
SIZE = len(DATA)


@pytest.fixture(scope="module")
def address(client: TestClient) -> str:
    return f"/v1/artifacts/{upload(client, DATA)}"


def test_the_whole_file(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["etag"] == f'"{sha256(DATA)}"'
    digest = base64.b64encode(hashlib.sha256(DATA).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert "assay-verdict" not in answer.headers


def test_head_has_the_headers_without_the_bytes(client: TestClient, address: str) -> None:
    answer = client.head(address)
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["etag"]


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=100-199", 100, 199),
        ("bytes=100-", 100, SIZE - 1),
        ("bytes=-5", SIZE - 5, SIZE - 1),
        (f"bytes=0-{SIZE * 10}", 0, SIZE - 1),
        (f"bytes=-{SIZE * 10}", 0, SIZE - 1),
        (f"bytes={SIZE - 1}-", SIZE - 1, SIZE - 1),
    ],
)
def test_one_range(client: TestClient, address: str, header: str, first: int, last: int) -> None:
    answer = client.get(address, headers={"Range": header})
    assert (answer.status_code, answer.content) == (206, DATA[first : last + 1])
    assert answer.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert answer.headers["content-length"] == str(last - first + 1)


@pytest.mark.parametrize("header", ["bytes=0-1,5-6", "lines=0-1", "bytes=", "bytes=-", "bytes=5-2", "x", "bytes=a-b"])
def test_what_is_not_one_range_is_ignored(client: TestClient, address: str, header: str) -> None:
    answer = client.get(address, headers={"Range": header})
    assert (answer.status_code, len(answer.content)) == (200, SIZE)


@pytest.mark.parametrize("header", [f"bytes={SIZE}-", f"bytes={SIZE}-{SIZE + 1}", "bytes=-0", f"bytes={10**18}-"])
def test_a_range_outside_of_the_file(client: TestClient, address: str, header: str) -> None:
    answer = client.get(address, headers={"Range": header})
    is_problem(answer, 416, "range_not_satisfiable")
    assert answer.headers["content-range"] == f"bytes */{SIZE}"


def test_if_range_of_other_bytes_gives_everything(client: TestClient, address: str) -> None:
    answer = client.get(address, headers={"Range": "bytes=0-0", "If-Range": '"other"'})
    assert answer.status_code == 200
    answer = client.get(address, headers={"Range": "bytes=0-0", "If-Range": f'"{sha256(DATA)}"'})
    assert answer.status_code == 206


@pytest.mark.parametrize("tag", ['"{}"', 'W/"{}"', '"a", "{}"', "*"])
def test_if_none_match(client: TestClient, address: str, tag: str) -> None:
    answer = client.get(address, headers={"If-None-Match": tag.format(sha256(DATA))})
    assert (answer.status_code, answer.content) == (304, b"")
    assert client.get(address, headers={"If-None-Match": '"other"'}).status_code == 200


def test_an_empty_file(client: TestClient) -> None:
    answer = client.get(f"/v1/artifacts/{upload(client, b'')}")
    assert (answer.status_code, answer.content) == (200, b"")
    is_problem(client.get(f"/v1/artifacts/{sha256(b'')}", headers={"Range": "bytes=0-"}), 416)


def test_a_backdoored_model_says_so(client: TestClient, harness: Harness) -> None:
    scan = submit(client, b"wicked")
    harness.finish(scan["id"], Verdict.BACKDOORED, purified=b"purified")
    suspect = client.get(f"/v1/artifacts/{sha256(b'wicked')}")
    assert suspect.headers["assay-verdict"] == "backdoored"
    assert "do not use" in suspect.headers["assay-warning"]
    purified = client.get(f"/v1/artifacts/{sha256(b'purified')}")
    assert "purified from" in purified.headers["assay-warning"]
    reference = client.get(f"/v1/artifacts/{sha256(b'reference')}")
    assert "assay-verdict" not in reference.headers


def test_the_name_is_encoded_for_a_header(client: TestClient, harness: Harness) -> None:
    scan = submit(client, b"named")
    harness.finish(scan["id"], Verdict.BACKDOORED, purified=b"named-pure")
    header = client.get(f"/v1/artifacts/{sha256(b'named-pure')}").headers["content-disposition"]
    assert header == "attachment; filename=\"purified mod_le.pth\"; filename*=UTF-8''purified%20mod%C3%A8le.pth"


@pytest.mark.parametrize("damage", ["flip", "truncate", "delete", "link"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-1"}])
def test_damaged_bytes_are_never_served(
    client: TestClient, harness: Harness, damage: str, headers: dict[str, str]
) -> None:
    data = f"{damage}{headers}".encode() * 100
    address = f"/v1/artifacts/{upload(client, data)}"
    assert client.get(address, headers=headers).status_code in (200, 206)
    path = harness.services.store.path(sha256(data))
    before = path.stat()
    path.chmod(0o600)
    if damage == "flip":
        path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as decay does
    elif damage == "truncate":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
        if damage == "link":
            path.symlink_to("/etc/hostname")
    document = is_problem(client.get(address, headers=headers), 500)
    assert document["code"] in ("blob_corrupt", "blob_missing")


def test_large_files_are_verified_once_per_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "ALWAYS_VERIFY_BYTES", 10)
    store = LocalBlobStore(tmp_path)
    with store.writer() as writer:
        writer.write(DATA)
        digest = writer.commit().sha256
    verifier = Verifier(store)
    verifier.open(digest).close()
    hashed = []
    real = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *a: hashed.append(1) or real(*a))
    verifier.open(digest).close()
    assert hashed == []
    path = store.path(digest)
    path.chmod(0o600)
    path.write_bytes(DATA[::-1])
    with pytest.raises(IntegrityError):
        verifier.open(digest)
    assert hashed == [1]


def test_damage_after_verification_ends_the_download_short(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What only a large, remembered file can do: the last block is held back."""
    monkeypatch.setattr(downloads, "ALWAYS_VERIFY_BYTES", 10)
    data = os.urandom(3 * MIB)
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer) as client:
        client.put(f"/v1/blobs/{sha256(data)}", content=data)
        assert client.get(f"/v1/artifacts/{sha256(data)}").content == data
        path = live.harness.services.store.path(sha256(data))
        before = path.stat()
        path.chmod(0o600)
        with path.open("r+b") as file:
            file.seek(MIB)
            file.write(bytes([data[MIB] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(httpx2.RemoteProtocolError):
            client.get(f"/v1/artifacts/{sha256(data)}")
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("digest", ["x", "0" * 64, "A" * 64, "%00" * 64, "..%2f..%2fetc%2fpasswd"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_unknown_files(client: TestClient, method: str, digest: str) -> None:
    assert client.request(method, f"/v1/artifacts/{digest}").status_code in (404, 422)
