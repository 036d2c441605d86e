"""The very processes of docker-compose.yml, with its environment, on Debian's redis-server and postgresql."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from api.client import Client
from api.reference_zip import zip_folder
from core.config import ScanConfig
from core.domain import Preset, PurifyMode
from core.errors import UnavailableError
from tests.support.postgres import shared_postgres
from tests.support.processes import stop, wait_until
from tests.support.redis import start_redis

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "fashion-mnist"
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def assay(*words: str) -> list[str]:
    return [sys.executable, "-m", "api.cli", *words]


@pytest.mark.services
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_scan_through_the_processes_of_the_compose_file(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with start_redis() as redis:
        given = {
            "ASSAY_DATABASE_URL": shared_postgres().create_database(),
            "ASSAY_BROKER_URL": redis.url,
            "ASSAY_DATA_DIR": str(tmp_path / "data"),
            "ASSAY_SECRET_KEY": "",
            "ASSAY_HUB_ENDPOINT": "",
            "ASSAY_HUB_REDIRECT_HOSTS": "",
        }
        for name in ("migrate", "api", "worker", "sweeper"):
            assert set(SERVICES[name]["environment"]) == set(given)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("ASSAY_")} | given

        def run(*words: str) -> str:
            done = subprocess.run(
                assay(*words), env=environment, cwd=tmp_path, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        run(*SERVICES["migrate"]["command"][1:])
        key = next(word for word in run("keys", "create", "test").split() if word.startswith("assay_"))
        commands = [
            ["serve", "--host", "127.0.0.1", "--port", str(port)],
            SERVICES["worker"]["command"][1:],
            SERVICES["sweeper"]["command"][1:],
        ]
        with (tmp_path / "log").open("wb") as log:
            processes = [
                subprocess.Popen(assay(*words), env=environment, cwd=tmp_path, stdout=log, stderr=log)
                for words in commands
            ]
        try:
            with Client(f"http://127.0.0.1:{port}", key) as client:

                def up() -> bool:
                    try:
                        client.healthy()
                    except UnavailableError:
                        return False
                    return True

                wait_until(up, 30, "the API")
                reference = tmp_path / "reference.zip"
                zip_folder(EXAMPLE / "reference", reference)
                config = ScanConfig.for_preset(Preset.FAST, purify=PurifyMode.NEVER)
                model = client.upload(EXAMPLE / "patch.safetensors")
                scan = client.wait(client.submit({"blob": model}, client.upload(reference), config)["id"])
                assert (scan["state"], scan["verdict"]) == ("succeeded", "backdoored"), (tmp_path / "log").read_text()
                assert not client.gate(model).allow
        finally:
            for process in processes:
                stop(process, signal.SIGTERM)
