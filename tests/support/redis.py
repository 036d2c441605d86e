"""A private redis-server on a spare port, without persistence."""

import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import redis

from tests.support.servers import die_with_parent, find_program, free_port, missing, wait_for


class RedisServer:
    """Context manager. `kill` and `start` simulate a broker that lost everything."""

    def __init__(self, program: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._program = program
        self._folder = Path(tempfile.mkdtemp(prefix="assay-redis-"))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start (again, empty) and wait until it answers."""
        options = ("--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--dir", str(self._folder))
        self._process = subprocess.Popen(
            [self._program, "--bind", "127.0.0.1", "--port", str(self.port), *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
        wait_for(self._answers, "redis-server")

    @property
    def pid(self) -> int:
        """Of the running server."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """kill -9: everything it held is gone."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        self._end(signal.SIGTERM)
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "RedisServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def _answers(self) -> bool:
        try:
            with redis.Redis(port=self.port, socket_connect_timeout=1) as client:
                return bool(client.ping())
        except redis.ConnectionError:
            return False


def start_redis() -> RedisServer:
    """A running server. Skips the test (fails it when CI=true) if redis-server is not installed."""
    program = find_program("redis-server")
    if program is None:
        missing("redis-server")
    return RedisServer(program)
