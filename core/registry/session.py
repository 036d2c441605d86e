"""The database: one class that hides what differs between SQLite and PostgreSQL."""

import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, func, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Session

import core
from core.errors import AssayError, StorageFullError, UnavailableError

__all__ = ["Database", "Session", "normalise_url"]

MIGRATIONS = Path(core.__file__).parent.parent / "migrations"

_BUSY_TIMEOUT_S = 30.0
_BLOB_LOCK = 0x41535341  # any constant: the advisory lock that orders storing and collecting blobs
_UPGRADE_LOCK = _BLOB_LOCK + 1


def normalise_url(url: str) -> URL:
    """`url` with the driver named in full: psycopg 3 for PostgreSQL.

    Raises:
        ValueError: neither SQLite nor PostgreSQL.
    """
    parsed = make_url(url)
    if parsed.drivername in {"postgres", "postgresql", "postgresql+psycopg"}:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername in {"sqlite", "sqlite+pysqlite"} and parsed.database not in {None, "", ":memory:"}:
        return parsed.set(drivername="sqlite")
    raise ValueError("the database address must be sqlite:///FILE or postgresql://...")


class Database:
    """Connections and transactions.

    Args:
        url: `sqlite:///FILE` or `postgresql://...`; the folder of the file is made if absent.
    """

    def __init__(self, url: str) -> None:
        self.url = normalise_url(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            Path(str(self.url.database)).parent.mkdir(parents=True, exist_ok=True)
            self.engine = create_engine(
                self.url, connect_args={"timeout": _BUSY_TIMEOUT_S}, pool_size=10, max_overflow=40
            )
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)
        else:
            self.engine = create_engine(
                self.url, pool_pre_ping=True, pool_size=10, max_overflow=20, connect_args={"connect_timeout": 10}
            )
        self._writing: Engine = self.engine.execution_options(assay_write=True)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for queries; nothing is kept.

        Raises:
            UnavailableError: `database_unavailable` or `database_not_migrated`.
        """
        with _translated(), Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def begin(self) -> Iterator[Session]:
        """One write transaction, committed at the end of the block unless it raises.

        On SQLite it takes the write lock at once: there is one writer, and no upgrade from reading that could fail.

        Raises:
            UnavailableError: `database_unavailable` or `database_not_migrated`.
            StorageFullError: the disk of the database is full.
        """
        with _translated(), Session(self._writing, expire_on_commit=False) as session, session.begin():
            session.connection()  # now, not at the first statement
            yield session

    def now(self, session: Session) -> datetime:
        """The time on the database's clock, the only clock that job times come from."""
        if self.is_sqlite:
            value = session.execute(text("SELECT strftime('%Y-%m-%dT%H:%M:%f', 'now')")).scalar_one()
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        now: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        return now.astimezone(UTC)

    def lock_blobs(self, session: Session, *, exclusive: bool) -> None:
        """Until the transaction ends: many may add what refers to blobs and models, or one may remove what does not.

        SQLite has one writer anyway.
        """
        if not self.is_sqlite:
            lock = func.pg_advisory_xact_lock if exclusive else func.pg_advisory_xact_lock_shared
            session.execute(select(lock(_BLOB_LOCK)))

    def upgrade(self) -> None:
        """Bring the schema to the newest version; safe to call from several processes at once."""
        from alembic import command  # a third of a second that ordinary start-up does not need

        with self.migrating() as connection:
            command.upgrade(self.alembic_config(connection), "head")

    @contextmanager
    def migrating(self) -> Iterator[Connection]:
        """A transaction in which nobody else migrates."""
        with _translated(), self._writing.begin() as connection:
            if not self.is_sqlite:
                connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
            yield connection

    @staticmethod
    def alembic_config(connection: Connection | None = None) -> Any:
        """An alembic.config.Config that finds the migrations, bound to `connection` if given."""
        from alembic.config import Config

        config = Config(stdout=sys.stdout)  # alembic's default is whatever that was when it was imported
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.attributes["connection"] = connection
        return config

    def ping(self) -> None:
        """Raises UnavailableError unless the database answers and has been migrated."""
        with self.read() as session:
            session.execute(text("SELECT 1 FROM org LIMIT 1"))

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says
    for pragma in ("journal_mode = WAL", "foreign_keys = ON", f"busy_timeout = {int(_BUSY_TIMEOUT_S * 1000)}"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("assay_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors about the outside world into deliberate ones; bugs stay what they are."""
    try:
        yield
    except (DBAPIError, PoolTimeoutError) as error:
        translated = _translate(error)
        if translated is None:
            raise
        raise translated from error


#: Result codes of SQLite that speak of files and locks, not of the statement.
_SQLITE_OUTSIDE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_IOERR", "SQLITE_CANTOPEN", "SQLITE_READONLY")
#: SQLSTATEs of PostgreSQL.
_UNDEFINED_TABLE, _UNDEFINED_COLUMN, _DISK_FULL = "42P01", "42703", "53100"


def _translate(error: DBAPIError | PoolTimeoutError) -> AssayError | None:
    """The deliberate error, or None for what is no circumstance but a bug."""
    origin = getattr(error, "orig", None)
    sqlite_code: str | None = getattr(origin, "sqlite_errorname", None)
    sqlstate: str | None = getattr(origin, "sqlstate", None)
    if sqlstate in {_UNDEFINED_TABLE, _UNDEFINED_COLUMN} or (
        sqlite_code == "SQLITE_ERROR" and str(origin).startswith(("no such table", "no such column"))
    ):
        return UnavailableError(
            "database_not_migrated", "The database does not have this version's tables.", "Run: assay db upgrade"
        )
    if sqlite_code == "SQLITE_FULL" or sqlstate == _DISK_FULL:
        return StorageFullError("storage_full", "The disk of the database is full.", "Free disk space.")
    if sqlite_code is not None:
        is_outside = sqlite_code.startswith(_SQLITE_OUTSIDE)
    else:
        is_outside = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError) or (
            isinstance(error, DBAPIError) and error.connection_invalidated
        )
    if is_outside:
        return UnavailableError("database_unavailable", "The database does not answer.", "Try again in a moment.")
    return None
