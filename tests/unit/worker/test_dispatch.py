import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import UnavailableError
from tests.support.jobs import desk
from tests.support.redis import RedisServer, start_redis
from tests.support.servers import free_port
from worker.app import make_app
from worker.dispatch import CeleryDispatcher, publish_after_commit


def publisher(url: str) -> CeleryDispatcher:
    return CeleryDispatcher(make_app(url, publisher=True))


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.mark.services
def test_a_message_holds_the_id_and_waits_in_its_queue(redis: RedisServer) -> None:
    publisher(redis.url).publish("scan_abc")
    assert redis_cli(redis, "llen", "assay:scan.small") == "1"
    assert "scan_abc" in body_of(redis_cli(redis, "lindex", "assay:scan.small", "0"))


@pytest.mark.services
def test_it_works_again_when_the_broker_is_back(redis: RedisServer) -> None:
    dispatcher = publisher(redis.url)
    dispatcher.publish("scan_a")
    redis.kill()
    with pytest.raises(UnavailableError):
        dispatcher.publish("scan_b")
    redis.start()
    dispatcher.publish("scan_c")
    assert redis_cli(redis, "llen", "assay:scan.small") == "1"


@pytest.mark.services
def test_a_broker_that_hangs_does_not_hang_us(redis: RedisServer) -> None:
    dispatcher = publisher(redis.url)
    os.kill(redis.pid, signal.SIGSTOP)
    begin = time.monotonic()
    try:
        with pytest.raises(UnavailableError):
            dispatcher.publish("scan_a")
    finally:
        os.kill(redis.pid, signal.SIGCONT)
    assert time.monotonic() - begin < 5


def test_a_broker_that_is_down_is_noticed_at_once_and_named_without_its_password() -> None:
    begin = time.monotonic()
    with pytest.raises(UnavailableError) as caught:
        publisher(f"redis://:canary@127.0.0.1:{free_port()}/0").publish("scan_a")
    assert time.monotonic() - begin < 2
    assert caught.value.code == "broker_unavailable"
    assert "canary" not in f"{caught.value}{caught.value.__cause__}"


def test_something_else_on_the_port_is_no_broker() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        begin = time.monotonic()
        with pytest.raises(UnavailableError):
            publisher(f"redis://127.0.0.1:{server.getsockname()[1]}/0").publish("scan_a")
    assert time.monotonic() - begin < 5


def test_a_submit_without_a_broker_is_kept_for_the_sweeper(tmp_path: Path) -> None:
    with desk(tmp_path) as office:
        scan = office.submit()
        assert not publish_after_commit(office.service, publisher(f"redis://127.0.0.1:{free_port()}/0"), scan)
        assert office.service.due(10) == [scan]
        assert publish_after_commit(office.service, CeleryDispatcher(make_app(None)), scan)
        assert office.service.due(10) == []


def redis_cli(server: RedisServer, *arguments: str) -> str:
    command = ["redis-cli", "-p", str(server.port), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def body_of(message: str) -> str:
    import base64
    import json

    return base64.b64decode(json.loads(message)["body"]).decode()
