"""The HTTP client: sends what is missing, believes nothing it has not verified, waits for a server that restarts."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api import client as module
from api import resumable
from api.client import Client, ServerError
from core.config import Preprocess, ScanConfig
from core.domain import ModelKind, Preset
from core.errors import CanceledError, IntegrityError, UnavailableError, UnsupportedError
from tests.support.cutting import cutting_proxy
from tests.support.http import MIB, LiveServer, sha256
from tests.support.processes import wait_until

Reply = tuple[int, bytes]


@contextmanager
def server_that(answers: Callable[[str, str], Reply]) -> Iterator[str]:
    """A server that answers (method, path) as told; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            status, body = answers(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = _answer

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_what_is_there_is_not_sent_again(live: LiveServer, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"client upload" * 100_000)
    sent: list[int] = []
    with Client(live.address, live.harness.key) as client:
        assert client.upload(path, lambda done, total: sent.append(total - done)) == sha256(path.read_bytes())
        assert sent[-1] == 0
        sent.clear()
        client.upload(path, lambda done, total: sent.append(done))
    assert sent == []


def test_a_large_file_survives_a_network_that_breaks(
    live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUMABLE_BYTES", 1000)
    monkeypatch.setattr(resumable, "PAUSE_S", 0.05)
    path = tmp_path / "model"
    path.write_bytes(os.urandom(6 * MIB))
    there: list[int] = []
    with cutting_proxy(live.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}", live.harness.key) as client:
        client.scans()  # the first connection is not cut
        proxy.cuts = [2 * MIB, 700_000, 10]
        digest = client.upload(path, lambda done, total: there.append(done))
        assert proxy.done == 3
    assert live.harness.services.store.path(digest).read_bytes() == path.read_bytes()
    assert there[-1] == 6 * MIB
    assert client_sees(live)["items"] == []


def test_a_long_way_does_not_use_up_the_patience(
    live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUMABLE_BYTES", 1000)
    monkeypatch.setattr(module, "AWAY_S", 3.0)
    monkeypatch.setattr(resumable, "PAUSE_S", 0.05)
    path = tmp_path / "model"
    path.write_bytes(os.urandom(6 * MIB))
    with cutting_proxy(live.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}", live.harness.key) as client:
        client.scans()
        proxy.cuts = [5 * MIB]
        digest = client.upload(path, lambda *_: time.sleep(0.8))  # longer than that until it breaks
        assert proxy.done == 1
    assert live.harness.services.store.exists(digest)


def test_a_second_run_goes_on_where_the_first_was_ended(
    live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "RESUMABLE_BYTES", 1000)
    path = tmp_path / "model"
    path.write_bytes(os.urandom(6 * MIB))

    def leave(done: int, total: int) -> None:
        if done > 3 * MIB:
            raise CanceledError

    with Client(live.address, live.harness.key) as client, pytest.raises(CanceledError):
        client.upload(path, leave)
    wait_until(lambda: client_sees(live)["items"][0]["offset"], 10, "what was sent")
    begun = client_sees(live)["items"][0]["offset"]
    sent: list[int] = []
    monkeypatch.setattr(resumable, "PAUSE_S", 0.05)
    with Client(live.address, live.harness.key) as client:
        client.upload(path, lambda done, total: sent.append(done))
    assert sent[0] > begun


def test_a_server_that_takes_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESUMABLE_BYTES", 1)
    monkeypatch.setattr(module, "AWAY_S", 0.3)
    monkeypatch.setattr(resumable, "PAUSE_S", 0.05)
    path = tmp_path / "model"
    path.write_bytes(b"some bytes")
    asked: list[str] = []

    def answers(method: str, address: str) -> Reply:
        asked.append(method)
        if address.startswith("/v1/blobs"):
            return 404, b""
        return (200, b'{"items": [%s]}' % json.dumps(begun).encode()) if method == "GET" else (503, b"{}")

    begun = {"sha256": sha256(b"some bytes"), "length": 10, "links": {"self": "/v1/uploads/upload_x"}}
    with server_that(answers) as address, Client(address) as client, pytest.raises(UnavailableError):
        client.upload(path)
    assert asked.count("HEAD") > 3


def client_sees(live: LiveServer) -> dict[str, Any]:
    """The open uploads."""
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer) as http:
        found: dict[str, Any] = http.get("/v1/uploads").json()
        return found


def test_all_options_reach_the_server(live: LiveServer, tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"client options")
    config = ScanConfig.for_preset(
        Preset.FAST,
        seed=9,
        kind=ModelKind.CLIP,
        architecture="resnet20",
        preprocess=Preprocess((0.5,), (0.25,), (8, 8)),
        vocabulary=("cat", "sea, sand"),
        templates=("a {}.",),
    )
    with Client(live.address, live.harness.key) as client:
        scan = client.submit({"blob": client.upload(path)}, None, config)
    assert ScanConfig.from_json(scan["config"]) == config


def test_problems_become_exceptions(live: LiveServer) -> None:
    with Client(live.address, live.harness.key) as client:
        with pytest.raises(ServerError, match="scan_not_found") as caught:
            client.scan("scan_unknown")
        assert caught.value.status == 404
        with pytest.raises(ServerError, match="blob_not_found"):
            client.submit({"blob": "0" * 64}, None, ScanConfig())
    with Client(live.address) as client, pytest.raises(ServerError, match="key_required"):
        client.scans()


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (422, "unsupported_kind", UnsupportedError),
        (503, "database_unavailable", UnavailableError),
        (500, "x", ServerError),
    ],
)
def test_kinds_of_problems(status: int, code: str, kind: type[Exception]) -> None:
    body = json.dumps({"code": code, "detail": "d"}).encode()
    with server_that(lambda *_: (status, body)) as address, Client(address) as client, pytest.raises(kind):
        client.scan("scan_x")


def test_other_bytes_are_not_kept(tmp_path: Path) -> None:
    target = tmp_path / "weights"
    target.write_bytes(b"old")
    with server_that(lambda *_: (200, b"tampered")) as address, Client(address) as client:
        with pytest.raises(IntegrityError):
            client.download(sha256(b"genuine"), target)
        assert target.read_bytes() == b"old"
        client.download(sha256(b"tampered"), target)
    assert target.read_bytes() == b"tampered"
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]


def test_waiting_outlives_a_restart_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)
    asked: list[str] = []

    def answers(_: str, path: str) -> Reply:
        asked.append(path)
        if len(asked) in (2, 3):
            return 503, b""
        state = "succeeded" if len(asked) > 4 else "running"
        return 200, json.dumps({"state": state}).encode()

    with server_that(answers) as address, Client(address) as client:
        assert client.wait("scan_x")["state"] == "succeeded"
        assert len(asked) == 5
    monkeypatch.setattr(module, "AWAY_S", 0.05)
    with Client(address) as client, pytest.raises(UnavailableError):
        client.wait("scan_x")


def test_html_is_no_answer() -> None:
    with server_that(lambda *_: (200, b"<html>")) as address, Client(address) as client:
        with pytest.raises(ServerError, match="invalid_answer"):
            client.scan("scan_x")
        with pytest.raises(ServerError, match="invalid_answer"):
            client.healthy()
