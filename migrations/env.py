"""Alembic's environment: from Database.upgrade() with its connection, or from the alembic command with settings."""

from alembic import context
from sqlalchemy import Connection

from core.registry.orm import Base
from core.registry.session import Database
from core.registry.types import UtcDateTime
from core.settings import Settings


def run(connection: Connection) -> None:
    """Migrate in the one transaction `connection` is in: DDL is transactional on both databases."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        transactional_ddl=True,
        compare_type=True,
        compare_server_default=True,
        render_item=_render_item,
    )
    with context.begin_transaction():
        context.run_migrations()


def _render_item(kind: str, item: object, _context: object) -> str | bool:
    """New revisions name plain types: they outlive the code they were generated from."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def main() -> None:
    if context.is_offline_mode():
        raise SystemExit("migrations need a database: they are not made for --sql")
    given = context.config.attributes.get("connection")
    if given is not None:
        run(given)
        return
    database = Database(Settings().resolved_database_url)
    try:
        with database.migrating() as connection:
            run(connection)
    finally:
        database.dispose()


main()
