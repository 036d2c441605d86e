"""Real servers and workers for tests: private, on spare ports, ended with the test."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
INSTALL = "apt-get install redis-server postgresql"


def missing_services() -> str | None:
    """What to install for tests that need Redis and PostgreSQL; None if all is there."""
    missing = [
        name
        for name, found in (("redis-server", shutil.which("redis-server")), ("postgresql", postgres_bin()))
        if not found
    ]
    return f"{' and '.join(missing)} not installed: {INSTALL}" if missing else None


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], object], timeout_s: float, what: str = "the condition") -> None:
    """Poll until `condition` is true. Raises AssertionError after `timeout_s`."""
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"{what} did not come true within {timeout_s} s")
        time.sleep(0.02)


def stop(process: "subprocess.Popen[bytes]", number: int = signal.SIGTERM, timeout_s: float = 15.0) -> int:
    """End a process and return its exit status; SIGKILL if it does not listen."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.send_signal(number)
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


class Redis:
    """A redis-server without persistence on a spare port."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
        )
        wait_until(lambda: listens(self.port), 10, "redis")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """As a crash does: everything in it is lost."""
        if self._process is not None:
            stop(self._process, signal.SIGKILL)
            self._process = None


@contextlib.contextmanager
def redis_server() -> Iterator[Redis]:
    """A running Redis."""
    server = Redis()
    server.start()
    try:
        yield server
    finally:
        server.kill()


def postgres_bin() -> Path | None:
    """Folder of initdb and postgres: Debian keeps them out of the PATH."""
    on_path = shutil.which("initdb")
    if on_path:
        return Path(on_path).resolve().parent
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@contextlib.contextmanager
def postgres_server(folder: Path) -> Iterator[str]:
    """A private cluster in `folder`; yields the address of its database. Runs as "postgres" when we are root."""
    binaries = postgres_bin()
    assert binaries is not None
    user = None
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:  # the server refuses to run as root
        account = pwd.getpwnam("postgres")
        user = "postgres"
        os.chown(folder, account.pw_uid, account.pw_gid)
        for parent in folder.parents:  # pytest's folders are closed to everybody else
            if parent.stat().st_mode & 0o001 == 0:
                parent.chmod(parent.stat().st_mode | 0o011)
    data, port = folder / "data", free_port()
    subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "assay", "--no-sync", "-E", "UTF8"],
        check=True,
        user=user,
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    options = ["-p", str(port), "-h", "127.0.0.1", "-k", str(folder), "-F"]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        server = subprocess.Popen(
            [str(binaries / "postgres"), "-D", str(data), *options], user=user, cwd="/", stdout=log, stderr=log
        )
        try:
            ready = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port), "-U", "assay"]
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0, 20, "postgresql")
            yield f"postgresql+psycopg://assay@127.0.0.1:{port}/postgres"
        finally:
            stop(server, signal.SIGINT)  # "fast": does not wait for clients


def listens(port: int) -> bool:
    """Whether a server accepts connections on the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.2):
        return True
    return False


def assay_environment(**values: object) -> dict[str, str]:
    """The environment of an Assay process: ours without its ASSAY_ settings, and the given ones."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("ASSAY_")}
    return {**inherited, **{f"ASSAY_{name.upper()}": str(value) for name, value in values.items()}}


def start_assay(command: str, environment: dict[str, str], log: Path, *, fake: bool) -> "subprocess.Popen[bytes]":
    """Start a `worker`, a `sweep` or an `embedded` (`assay serve` without HTTP) process; see assay_process.py."""
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.support.assay_process", command, *(["--fake"] if fake else [])],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
        )
