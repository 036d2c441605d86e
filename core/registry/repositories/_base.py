"""What repositories share."""

from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from core.registry.orm import Base


class Repository:
    """Statements about one part of the schema.

    Args:
        session: an open session; the repository never commits.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    def _insert_new(self, kind: type[Base], **values: Any) -> bool:
        """INSERT unless a unique key is taken already; whether the row is new.

        On PostgreSQL it waits for a concurrent transaction that inserts the same key.
        """
        table = kind.__table__
        assert isinstance(table, Table)
        dialect = self._session.get_bind().dialect.name
        insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
        first = next(iter(table.primary_key))
        statement = insert.values(**values).on_conflict_do_nothing().returning(first)
        return self._session.execute(statement).first() is not None
