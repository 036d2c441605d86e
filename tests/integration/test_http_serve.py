"""`assay serve` as a process: starts, refuses, stops."""

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from core.registry.keys import ApiKeyService
from core.registry.session import Database
from tests.support.cli import run_process
from tests.support.http import settings_in, sha256, submit
from tests.support.processes import wait_until
from tests.support.serving import serving


def test_serve_works_without_any_setting_and_stops_when_asked(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (client, process):
        assert client.get("/healthz").json()["status"] == "ok"
        wait_until(lambda: client.get("/readyz").json()["ready"], 30, "readiness")
        assert client.get("/v1/scans").json()["items"] == []
        assert client.get("/docs").status_code == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_stopping_answers_long_polls(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "data")
    database = Database(settings.resolved_database_url)
    key, _ = ApiKeyService(database).create("org_default", "test", ["admin"])
    database.dispose()
    with serving(tmp_path / "data", broker_url="redis://127.0.0.1:1/0") as (client, process):
        client.headers["Authorization"] = f"Bearer {key}"
        scan = submit(client)  # type: ignore[arg-type]
        asked = time.monotonic()
        timer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -TERM {process.pid}"])
        answer = client.get(f"/v1/scans/{scan['id']}?wait=60")
        assert answer.json()["state"] == "queued"
        assert time.monotonic() - asked < 20
        timer.wait()
        assert process.wait(20) == 0


def test_binding_elsewhere_needs_a_key(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    refused = run_process("serve", "--host", "0.0.0.0", "--port", "0", data_dir=data_dir)
    assert refused.code == 3
    assert "keys_required" in refused.err
    assert "assay keys create" in refused.err
    key = run_process("keys", "create", "first", "--scope", "read", data_dir=data_dir).out.strip()
    with serving(data_dir, "--host", "0.0.0.0") as (client, _):
        assert client.get("/healthz").status_code == 200
        assert client.get("/v1/scans").status_code == 401  # also on loopback
        assert client.get("/v1/scans", headers={"Authorization": f"Bearer {key}"}).status_code == 200


def test_an_upload_survives_the_death_of_the_server_or_leaves_nothing(tmp_path: Path) -> None:
    data_dir, data = tmp_path / "data", b"x" * 4_000_000
    address = f"/v1/blobs/{sha256(data)}"
    with serving(data_dir) as (client, process):

        def half() -> Iterator[bytes]:
            yield data[: len(data) // 2]
            time.sleep(0.2)
            process.kill()
            process.wait()
            yield data[len(data) // 2 :]

        with pytest.raises(httpx2.HTTPError):
            client.put(address, content=half())
    with serving(data_dir) as (client, process):
        assert client.head(address).status_code == 404
        assert client.put(address, content=data).status_code == 201
        process.kill()
        process.wait()
    with serving(data_dir) as (client, _):
        assert client.head(address).headers["content-length"] == str(len(data))
        assert client.get(f"/v1/artifacts/{sha256(data)}").content == data


@pytest.mark.parametrize(
    ("settings", "code", "text"),
    [
        ({"database_url": "sqlite:////proc/none/assay.db"}, 3, "cannot be opened"),
        ({"database_url": "mysql://u:hunter2@h/d"}, 3, "must be sqlite"),
        ({"lease_s": "soon"}, 64, "ASSAY_LEASE_S"),
    ],
)
def test_what_keeps_it_from_starting_is_said(tmp_path: Path, settings: dict[str, str], code: int, text: str) -> None:
    ran = run_process("serve", "--port", "0", data_dir=tmp_path / "data", **settings)
    assert ran.code == code
    assert text in ran.err
    assert "Traceback" not in ran.err
    assert "hunter2" not in ran.err


def test_a_port_in_use(tmp_path: Path) -> None:
    with serving(tmp_path / "data") as (client, _):
        port = client.base_url.port
        ran = run_process("serve", "--port", port, data_dir=tmp_path / "other")
        assert (ran.code, f"127.0.0.1:{port}" in ran.err) == (3, True)
