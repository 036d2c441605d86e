"""Processes of Assay that may be killed: started and ended per test."""

import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.jobs import QUICK, Desk, desk
from tests.support.processes import assay_environment, start_assay, stop
from tests.support.redis import RedisServer, start_redis

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start("worker" | "sweep" | "embedded", **settings): a process with stand-in children on the same data."""
    processes: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "processes.log"

    def start_one(command: str, **settings: object) -> "subprocess.Popen[bytes]":
        environment = assay_environment(data_dir=tmp_path, **{**QUICK, **settings})
        processes.append(start_assay(command, environment, log, fake=True))
        return processes[-1]

    yield start_one
    for process in processes:
        stop(process, signal.SIGKILL)  # the test is over: what a slow farewell does is tested elsewhere
    if log.exists():
        print(log.read_text())  # shown by pytest when the test fails
