"""Uploads over a real server: streamed, verified, capped, all or nothing."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi.testclient import TestClient

from api import uploads
from tests.support.http import MIB, Harness, LiveServer, app_client, is_problem, sha256, temp_files, upload
from tests.support.processes import wait_until


@pytest.fixture(scope="module")
def http(live: LiveServer) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer, timeout=30) as made:
        yield made


def in_pieces(data: bytes, size: int = 10_000) -> Iterator[bytes]:
    """A body without Content-Length."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def stored(harness: Harness) -> set[str]:
    return {blob.sha256 for blob in harness.services.store.iter()}


def test_put_head_put_again(http: httpx2.Client, live: LiveServer) -> None:
    data = os.urandom(3 * MIB + 17)
    address = f"/v1/blobs/{sha256(data)}"
    assert http.head(address).status_code == 404
    answer = http.put(address, content=data)
    assert answer.status_code == 201
    assert answer.json() == {"sha256": sha256(data), "size_bytes": len(data)}
    assert answer.headers["location"] == address
    head = http.head(address)
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(data)))
    assert http.put(address, content=data).status_code == 200
    assert live.harness.services.store.path(sha256(data)).read_bytes() == data
    assert temp_files(live.harness) == []


def test_an_empty_body_is_a_blob_too(http: httpx2.Client) -> None:
    assert http.put(f"/v1/blobs/{sha256(b'')}", content=b"").json()["size_bytes"] == 0


@pytest.mark.parametrize("size", [1, uploads.BLOCK_BYTES - 1, uploads.BLOCK_BYTES, uploads.BLOCK_BYTES + 1, 5 * MIB])
def test_sizes_around_a_block_arrive_whole(http: httpx2.Client, live: LiveServer, size: int) -> None:
    data = os.urandom(size)
    assert http.put(f"/v1/blobs/{sha256(data)}", content=in_pieces(data, 65_537)).status_code == 201
    assert live.harness.services.store.path(sha256(data)).read_bytes() == data


def test_a_wrong_digest_keeps_nothing(http: httpx2.Client, live: LiveServer) -> None:
    before = stored(live.harness)
    document = is_problem(http.put(f"/v1/blobs/{'1' * 64}", content=b"other bytes"), 422, "digest_mismatch")
    assert sha256(b"other bytes") in document["detail"]
    assert stored(live.harness) == before
    assert temp_files(live.harness) == []
    assert http.head(f"/v1/blobs/{'1' * 64}").status_code == 404


def test_a_known_digest_does_not_excuse_other_bytes(http: httpx2.Client) -> None:
    data = b"known"
    http.put(f"/v1/blobs/{sha256(data)}", content=data)
    is_problem(http.put(f"/v1/blobs/{sha256(data)}", content=b"tampered"), 422, "digest_mismatch")
    assert http.head(f"/v1/blobs/{sha256(data)}").headers["content-length"] == "5"


@pytest.mark.parametrize("chunked", [False, True])
def test_the_cap_is_exact(http: httpx2.Client, live: LiveServer, chunked: bool) -> None:
    limit = live.harness.services.settings.max_upload_bytes
    data = b"z" * (limit + 1)
    for size, status in ((limit, 201 if not chunked else 200), (limit + 1, 413)):
        content = in_pieces(data[:size]) if chunked else data[:size]
        answer = http.put(f"/v1/blobs/{sha256(data[:size])}", content=content)
        assert answer.status_code == status
    is_problem(answer, 413, "too_large")
    assert temp_files(live.harness) == []
    assert sha256(data) not in stored(live.harness)


def test_a_truncated_upload_keeps_nothing(live: LiveServer) -> None:
    data = os.urandom(4 * MIB)
    head = (
        f"PUT /v1/blobs/{sha256(data)} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n"
        f"Authorization: {live.harness.bearer['Authorization']}\r\n\r\n"
    )
    connection = live.connect()
    connection.sendall(head.encode() + data[: 3 * MIB])
    wait_until(lambda: temp_files(live.harness), 10, "a temporary file")
    connection.close()
    wait_until(lambda: not temp_files(live.harness), 10, "no temporary file")
    assert sha256(data) not in stored(live.harness)


def test_a_stalled_upload_is_given_up(live: LiveServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads.blocks, "__defaults__", (0.3,))
    connection = live.connect()
    connection.settimeout(10)
    head = (
        f"PUT /v1/blobs/{'2' * 64} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        f"Authorization: {live.harness.bearer['Authorization']}\r\n\r\nsome"
    )
    connection.sendall(head.encode())
    assert b" 408 " in connection.recv(65536)
    connection.close()
    assert temp_files(live.harness) == []


def test_expect_continue_is_answered_before_the_body(live: LiveServer) -> None:
    connection: socket.socket = live.connect()
    connection.settimeout(10)
    head = f"PUT /v1/blobs/{'3' * 64} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\nExpect: 100-continue\r\n"
    connection.sendall(f"{head}Authorization: {live.harness.bearer['Authorization']}\r\n\r\n".encode())
    assert b" 413 " in connection.recv(65536)  # not "100 Continue"
    connection.close()


@pytest.mark.parametrize("digest", ["x", "A" * 64, "0" * 63, "0" * 65, "..%2f" * 20, "%00" * 64])
@pytest.mark.parametrize("method", ["PUT", "HEAD"])
def test_only_digests_are_addresses(client: TestClient, method: str, digest: str) -> None:
    answer = client.request(method, f"/v1/blobs/{digest}", content=b"x" if method == "PUT" else None)
    assert answer.status_code in (404, 422)


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "PATCH"])
def test_other_methods(client: TestClient, method: str) -> None:
    answer = client.request(method, f"/v1/blobs/{'0' * 64}")
    is_problem(answer, 405, "method_not_allowed")
    assert "PUT" in answer.headers["allow"] or "HEAD" in answer.headers["allow"]


def test_the_reserve_is_kept_free(tmp_path: Path) -> None:
    with app_client(tmp_path / "data", free_space_reserve_bytes=1 << 60) as (client, harness):
        is_problem(client.put(f"/v1/blobs/{sha256(b'x')}", content=b"x"), 507, "storage_full")
        is_problem(client.post("/v1/scans", files={"model": ("m", b"x")}), 507, "storage_full")
        assert temp_files(harness) == []


def test_a_disk_that_fills_up_on_the_way_keeps_nothing(
    fresh: tuple[TestClient, Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, harness = fresh
    data = os.urandom(3 * MIB)
    written = 0
    real = os.write

    def full(fd: int, block: bytes) -> int:
        nonlocal written
        written += len(block)
        if written > MIB:
            raise OSError(28, "No space left on device")
        return real(fd, block)

    monkeypatch.setattr(os, "write", full)
    is_problem(client.put(f"/v1/blobs/{sha256(data)}", content=data), 507, "storage_full")
    monkeypatch.undo()
    assert temp_files(harness) == []
    assert client.head(f"/v1/blobs/{sha256(data)}").status_code == 404
    assert upload(client, data) == sha256(data)  # and works again afterwards


def test_announced_bytes_count_against_the_reserve(
    fresh: tuple[TestClient, Harness], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, _ = fresh

    class Usage:
        free = 1000

    monkeypatch.setattr("api.routes.blobs.shutil.disk_usage", lambda _: Usage)
    assert client.put(f"/v1/blobs/{sha256(b'x' * 1000)}", content=b"x" * 1000).status_code == 201
    is_problem(client.put(f"/v1/blobs/{sha256(b'x' * 1001)}", content=b"x" * 1001), 507, "storage_full")


def test_other_requests_are_served_while_an_upload_hangs(http: httpx2.Client, live: LiveServer) -> None:
    connections = []
    for number in range(20):
        connection = live.connect()
        head = f"PUT /v1/blobs/{number:064d} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        connection.sendall(f"{head}Authorization: {live.harness.bearer['Authorization']}\r\n\r\n".encode())
        connections.append(connection)
    began = time.monotonic()
    assert http.get("/v1/scans").status_code == 200
    assert time.monotonic() - began < 3
    for connection in connections:
        connection.close()
    wait_until(lambda: not temp_files(live.harness), 10, "no temporary file")
