"""`assay serve` as tests run it: a process of its own, and a client for it."""

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from tests.support.cli import start
from tests.support.processes import stop, wait_until
from tests.support.servers import free_port

Serving = tuple[httpx2.Client, "subprocess.Popen[str]"]


@contextmanager
def serving(data_dir: Path, *arguments: str, **settings: object) -> Iterator[Serving]:
    """A server on a free port; its log is server.log beside `data_dir`."""
    port = free_port()
    values = {"data_dir": data_dir, "free_space_reserve_bytes": 0, "threads": 1, **settings}
    with (data_dir.parent / "server.log").open("a") as log:
        process = start("serve", "--port", port, *arguments, log=log, **values)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, 60, "the server")
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
            yield client, process
    finally:
        stop(process)  # type: ignore[arg-type]


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.5):
        return True
    return False
