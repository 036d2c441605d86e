"""A private PostgreSQL cluster on a spare port; nothing of an installed one is touched.

    url = shared_postgres().create_database()

skips the test (or fails it when CI=true) if PostgreSQL is not installed. Mark such tests with
`pytest.mark.services`.
"""

import atexit
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

try:
    import psycopg
    from psycopg import sql
except ImportError:  # the extra "postgres" is not installed
    psycopg = None

from tests.support.servers import die_with_parent, find_program, free_port, missing, wait_for

_FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200", "shared_buffers=32MB")


class PostgresServer:
    """A cluster with one superuser `assay`, trusted on 127.0.0.1. Runs as the user postgres if we are root."""

    def __init__(self, initdb: str, postgres: str) -> None:
        self.port = free_port()
        self._postgres = postgres
        self._identity: dict[str, Any] = {}
        self._folder = Path(tempfile.mkdtemp(prefix="assay-postgres-"))
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self._folder, account.pw_uid, account.pw_gid)
            self._identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        self._data = self._folder / "data"
        self._log = self._folder.with_suffix(".log").open("wb")
        self._process: subprocess.Popen[bytes] | None = None
        self._databases = 0
        options = ("-A", "trust", "-U", "assay", "--no-sync", "-E", "UTF8", "--locale=C")
        subprocess.run(
            [initdb, "-D", str(self._data), *options],
            check=True,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
            **self._identity,
        )
        self.start()

    def start(self) -> None:
        """Start the server (again) and wait until it answers."""
        settings = [word for item in _FAST for word in ("-c", item)]
        self._process = subprocess.Popen(
            [self._postgres, "-D", self._data, "-p", str(self.port), "-h", "127.0.0.1", "-k", self._folder, *settings],
            stdout=self._log,
            stderr=self._log,
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            preexec_fn=die_with_parent,
            **self._identity,
        )
        wait_for(self._answers, "postgres")

    def stop(self) -> None:
        """Stop the server; connections are cut. Data stays."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)  # "fast": do not wait for clients
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Stop the server and remove everything."""
        self.stop()
        self._log.close()
        Path(self._log.name).unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def create_database(self, template: str | None = None) -> str:
        """The address of a new database, a copy of the database named `template` if given."""
        self._databases += 1
        name = f"test_{self._databases}"
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        with psycopg.connect(self._url("postgres"), autocommit=True) as connection:
            connection.execute(statement)
        return self._url(name)

    def _url(self, database: str) -> str:
        return f"postgresql://assay@127.0.0.1:{self.port}/{database}"

    def _answers(self) -> bool:
        try:
            psycopg.connect(self._url("postgres"), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def start_postgres() -> PostgresServer:
    """A cluster of your own, to be stopped and started at will; call close() at the end. Takes about two seconds."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    initdb, postgres = (find_program(name, *folders) for name in ("initdb", "postgres"))
    if initdb is None or postgres is None or psycopg is None:
        missing("PostgreSQL and the extra `postgres`")
    return PostgresServer(initdb, postgres)


@functools.cache
def shared_postgres() -> PostgresServer:
    """The cluster all tests of this run share; do not stop it."""
    server = start_postgres()
    atexit.register(server.close)
    return server
