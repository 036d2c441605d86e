"""Migrated databases for tests: a fresh copy of a template each, which is much faster than migrating."""

import atexit
import functools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from core.registry.session import Database
from tests.support.postgres import shared_postgres

Kind = Literal["sqlite", "postgresql"]


@contextmanager
def fresh_database(kind: Kind, folder: Path) -> Iterator[Database]:
    """A migrated database of its own; a SQLite file lies in `folder`."""
    if kind == "sqlite":
        path = folder / "assay.db"
        shutil.copyfile(_sqlite_template(), path)
        database = Database(f"sqlite:///{path}")
    else:
        database = Database(shared_postgres().create_database(_postgres_template()))
    try:
        yield database
    finally:
        database.dispose()


@functools.cache
def _sqlite_template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="assay-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = folder / "assay.db"
    _migrate(f"sqlite:///{path}")
    return path


@functools.cache
def _postgres_template() -> str:
    url = shared_postgres().create_database()
    _migrate(url)
    return url.rpartition("/")[2]


def _migrate(url: str) -> None:
    database = Database(url)
    database.upgrade()
    database.dispose()
