"""`assay gate`, `assay status`, `assay get`."""

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import pytest

from api.client import Client
from core.domain import Verdict
from tests.support.cli import Cli
from tests.support.http import LiveServer, sha256, submit


def scanned(live: LiveServer, model: bytes, verdict: Verdict, purified: bytes | None = None) -> str:
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer) as client:
        scan = submit(client, model)  # type: ignore[arg-type]
    live.harness.finish(scan["id"], verdict, purified)
    return str(scan["id"])


def test_gate_exit_codes(remote: Cli, live: LiveServer, tmp_path: Path) -> None:
    good, bad, unknown, pending = (tmp_path / name for name in ("good", "bad", "unknown", "pending"))
    for path in (good, bad, unknown, pending):
        path.write_bytes(f"gate {path.name}".encode())
    scanned(live, good.read_bytes(), Verdict.CLEAN)
    scanned(live, bad.read_bytes(), Verdict.BACKDOORED)
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer) as client:
        submit(client, pending.read_bytes())  # type: ignore[arg-type]
    assert [remote("gate", path).code for path in (good, bad, unknown, pending)] == [0, 1, 2, 2]
    assert remote("gate", sha256(good.read_bytes())).code == 0
    folder = tmp_path / "model"
    folder.mkdir()
    assert remote("gate", folder).code == 64  # there is no model in it
    (folder / "config.json").write_text('{"model_type": "vit"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    assert remote("gate", folder).code == 2
    ran = remote("gate", bad, "--json")
    document = json.loads(ran.out)
    assert (document["allow"], document["decision"]) == (False, "block")


def test_an_inconclusive_verdict_blocks(remote: Cli, live: LiveServer) -> None:
    scanned(live, b"gate undecided", Verdict.INCONCLUSIVE)
    assert remote("gate", sha256(b"gate undecided")).code == 1


@pytest.mark.parametrize("what", ["no-such-file", "A" * 64, "."])
def test_gate_usage(remote: Cli, what: str) -> None:
    assert remote("gate", what).code == 64


def test_gate_without_argument(remote: Cli) -> None:
    assert remote("gate").code == 64


def test_gate_errors_mean_no(cli: Cli, live: LiveServer) -> None:
    digest = "0" * 64
    assert cli("gate", digest, "--server", "http://127.0.0.1:1").code == 3
    assert cli("gate", digest, "--server", live.address).code == 3  # no key
    ran = cli("gate", digest, "--server", "http://127.0.0.1:1", "--json")
    assert json.loads(ran.out)["allow"] is False


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b"{}"),
        (200, b"null"),
        (200, b"<html>allow</html>"),
        (200, b'{"sha256": "%s", "allow": "yes", "decision": "allow", "reasons": []}' % (b"0" * 64)),
        (200, b'{"sha256": "%s", "allow": true, "decision": "block", "reasons": []}' % (b"0" * 64)),
        (200, b'{"sha256": "%s", "allow": true, "decision": "allow", "reasons": [7]}' % (b"0" * 64)),
        (200, b'{"sha256": "%s", "allow": true, "decision": "allow", "reasons": []}' % (b"1" * 64)),
        (500, b'{"sha256": "%s", "allow": true, "decision": "allow", "reasons": []}' % (b"0" * 64)),
        (302, b""),
        (204, b""),
    ],
)
def test_the_client_fails_closed(status: int, body: bytes) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.handle_request, daemon=True).start()
    with Client(f"http://127.0.0.1:{server.server_port}") as client:
        assert client.gate("0" * 64).allow is False
    server.server_close()


def test_status(remote: Cli, live: LiveServer) -> None:
    scan_id = scanned(live, b"status", Verdict.BACKDOORED)
    ran = remote("status", scan_id)
    assert (ran.code, scan_id in ran.out, "backdoored" in ran.out) == (0, True, True)
    assert json.loads(remote("status", scan_id, "--json").out)["id"] == scan_id
    assert scan_id in remote("status").out
    assert json.loads(remote("status", "--json").out)[0]["id"] == scan_id
    ran = remote("status", "scan_unknown")
    assert (ran.code, "scan_not_found" in ran.err) == (3, True)


def test_get(remote: Cli, live: LiveServer, tmp_path: Path) -> None:
    scan_id = scanned(live, b"get", Verdict.BACKDOORED, b"get pure")
    assert json.loads(remote("get", scan_id).out)["detection"]["verdict"] == "backdoored"
    assert remote("get", scan_id, "--out", tmp_path / "a").code == 0
    assert (tmp_path / "a").read_bytes() == b"get pure"
    assert remote("get", sha256(b"get"), "--out", tmp_path / "b").code == 0
    assert (tmp_path / "b").read_bytes() == b"get"
    assert remote("get", sha256(b"get")).code == 64
    ran = remote("get", scan_id, "--out", tmp_path / "c", "--role", "trigger_image")
    assert (ran.code, "artifact_not_found" in ran.err) == (3, True)
    assert remote("get", "0" * 64, "--out", tmp_path / "c").code == 3
    assert not (tmp_path / "c").exists()
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "b"]
