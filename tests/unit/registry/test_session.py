"""The database: time, transactions, locks, and errors about the outside world."""

import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, StatementError

from core.errors import UnavailableError
from core.registry.ids import new_id
from core.registry.orm import Org
from core.registry.session import Database, normalise_url
from tests.support.databases import fresh_database
from tests.support.postgres import start_postgres
from tests.support.servers import free_port


def test_now_is_aware_and_moves(db: Database) -> None:
    with db.read() as session:
        first = db.now(session)
        threading.Event().wait(0.01)
        second = db.now(session)
    assert first.tzinfo is UTC
    assert timedelta(0) < second - first
    assert abs(datetime.now(UTC) - second) < timedelta(minutes=1)


def test_times_come_back_aware_in_utc(db: Database) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=timezone(timedelta(hours=5)))
    with db.begin() as session:
        session.add(Org(id="org_x", name="x", created_at=moment))
    with db.read() as session:
        found = session.get_one(Org, "org_x").created_at
    assert found == moment
    assert found.tzinfo is UTC


def test_naive_time_is_refused(db: Database) -> None:
    with pytest.raises(StatementError, match="naive"), db.begin() as session:
        session.add(Org(id="org_x", name="x", created_at=datetime(2026, 1, 1)))


def test_error_in_the_block_rolls_back(db: Database) -> None:
    def attempt() -> None:
        with db.begin() as session:
            session.add(Org(id="org_x", name="x", created_at=db.now(session)))
            session.flush()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        attempt()
    with db.read() as session:
        assert session.get(Org, "org_x") is None


def test_read_does_not_wait_for_a_writer(db: Database) -> None:
    with db.begin() as writing:
        writing.add(Org(id="org_x", name="x", created_at=db.now(writing)))
        writing.flush()
        with db.read() as session:
            assert session.get(Org, "org_x") is None


def test_writers_take_turns_without_errors(db: Database) -> None:
    """Read, then write, from many threads: each increment counts."""
    with db.begin() as session:
        session.execute(text("CREATE TABLE counter (n INTEGER NOT NULL)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))

    def work() -> None:
        for _ in range(10):
            with db.begin() as session:
                db.lock_blobs(session, exclusive=True)
                n = session.execute(text("SELECT n FROM counter")).scalar_one()
                session.execute(text("UPDATE counter SET n = :n"), {"n": n + 1})

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with db.begin() as session:
        assert session.execute(text("SELECT n FROM counter")).scalar_one() == 60
        session.execute(text("DROP TABLE counter"))


def test_bug_in_a_statement_is_no_outage(db: Database) -> None:
    with pytest.raises(IntegrityError), db.begin() as session:
        session.add(Org(id="org_default", name="twice", created_at=db.now(session)))


def test_ping(db: Database) -> None:
    db.ping()


def test_empty_database_says_what_to_do(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path}/new.db")
    with pytest.raises(UnavailableError) as caught:
        database.ping()
    assert caught.value.code == "database_not_migrated"
    assert "assay db upgrade" in caught.value.hint
    database.dispose()


def test_server_that_is_away(tmp_path: Path) -> None:
    database = Database(f"postgresql://u:canary@127.0.0.1:{free_port()}/none")
    with pytest.raises(UnavailableError) as caught:
        database.ping()
    assert caught.value.code == "database_unavailable"
    assert "canary" not in str(caught.value)
    database.dispose()


@pytest.mark.services
def test_server_that_goes_away_and_comes_back() -> None:
    server = start_postgres()
    try:
        database = Database(server.create_database())
        database.upgrade()
        database.ping()
        server.stop()
        for use in (database.read, database.begin):
            with pytest.raises(UnavailableError, match="database_unavailable"), use() as session:
                database.now(session)
        server.start()
        database.ping()
        database.dispose()
    finally:
        server.close()


def test_sqlite_lock_that_is_held_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with fresh_database("sqlite", tmp_path) as database:
        monkeypatch.setattr("core.registry.session._BUSY_TIMEOUT_S", 0.1)
        other = Database(str(database.url))
        with database.begin():
            with pytest.raises(UnavailableError, match="database_unavailable"), other.begin():
                pass
            other.ping()
        with other.begin():
            pass
        other.dispose()


def test_column_that_is_missing_is_a_matter_of_migration(db: Database) -> None:
    with pytest.raises(UnavailableError, match="database_not_migrated"), db.read() as session:
        session.execute(text("SELECT later FROM org"))


def test_sqlite_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "folder.db").mkdir()
    database = Database(f"sqlite:///{tmp_path}/folder.db")
    with pytest.raises(UnavailableError):
        database.ping()
    database.dispose()


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://h/db", "postgresql+psycopg"),
        ("postgresql://h/db", "postgresql+psycopg"),
        ("postgresql+psycopg://h/db", "postgresql+psycopg"),
        ("sqlite:////srv/a.db", "sqlite"),
    ],
)
def test_addresses(given: str, driver: str) -> None:
    assert normalise_url(given).drivername == driver


@pytest.mark.parametrize("given", ["mysql://h/db", "sqlite://", "sqlite:///:memory:", "postgresql+psycopg2://h/db"])
def test_other_addresses_are_refused(given: str) -> None:
    with pytest.raises(ValueError, match="must be"):
        normalise_url(given)


def test_ids_sort_by_time_and_do_not_repeat() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    ids = [new_id("scan", start + timedelta(milliseconds=i)) for i in range(100)]
    assert ids == sorted(ids)
    assert len({new_id("scan", start) for _ in range(1000)}) == 1000
    assert all(len(item) == len("scan_") + 26 and item == item.lower() for item in ids)
