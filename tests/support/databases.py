"""Migrated databases for tests: much faster than migrating one for each test."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from sqlalchemy import text

from core.registry.orm import Base
from core.registry.session import Database
from tests.support.postgres import shared_postgres

Kind = Literal["sqlite", "postgresql"]


@contextmanager
def fresh_database(kind: Kind, folder: Path) -> Iterator[Database]:
    """A migrated, empty database: a SQLite file of its own in `folder`, or the emptied shared PostgreSQL database.

    Of the latter, only one can be in use at a time; `shared_postgres().create_database()` makes others.
    """
    if kind == "sqlite":
        path = folder / "assay.db"
        shutil.copyfile(_sqlite_template(), path)
        database = Database(f"sqlite:///{path}")
        try:
            yield database
        finally:
            database.dispose()
    else:
        database = _postgres_database()
        _empty(database)
        yield database


@functools.cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="assay-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "assay.db"
    database = Database(f"sqlite:///{path}")
    database.upgrade()
    database.dispose()
    return path


@functools.cache
def _postgres_database() -> Database:
    database = Database(shared_postgres().create_database())
    database.upgrade()
    atexit.register(database.dispose)
    return database


def _empty(database: Database) -> None:
    """Everything but the default organisation. TRUNCATE passes the append-only triggers, which watch single rows."""
    tables = [name for name in Base.metadata.tables if name != "org"]
    with database.begin() as session:
        session.execute(text(f"TRUNCATE {', '.join(tables)}"))
        session.execute(text("DELETE FROM org WHERE id <> 'org_default'"))
