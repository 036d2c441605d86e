"""`assay db`: the schema of the registry."""

import tempfile
from io import StringIO
from pathlib import Path

from api.commands.common import ExitCode, err, exit_code_of, explain, load_settings, out
from core.errors import AssayError
from core.registry.session import Database


def upgrade() -> int:
    """Bring the configured database to the newest schema."""
    database = Database(load_settings().resolved_database_url)
    try:
        database.upgrade()
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    finally:
        database.dispose()
    err().print("The database is up to date.")
    return 0


def current() -> int:
    """Print the schema's revision; exit status 3 if it is not the newest."""
    from alembic.runtime.migration import MigrationContext
    from alembic.script import ScriptDirectory

    newest = ScriptDirectory.from_config(Database.alembic_config()).get_current_head()
    database = Database(load_settings().resolved_database_url)
    try:
        with database.read() as session:
            revision = MigrationContext.configure(session.connection()).get_current_revision()
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    finally:
        database.dispose()
    newest_text = "newest" if revision == newest else f"newest: {newest}"
    out().print(f"{revision or 'empty'} ({newest_text})", markup=False)
    return 0 if revision == newest else ExitCode.FAILED


def check() -> int:
    """Whether the migrations give exactly the tables the code describes, tried on a scratch database."""
    from alembic import command
    from alembic.util import CommandError

    with tempfile.TemporaryDirectory(prefix="assay-") as folder:
        database = Database(f"sqlite:///{Path(folder) / 'check.db'}")
        try:
            database.upgrade()
            with database.engine.begin() as connection:
                config = Database.alembic_config(connection)
                config.stdout = StringIO()  # what it has to say when all is well
                command.check(config)
        except CommandError as error:
            err().print(f"The migrations and the tables differ: {error}", style="red", markup=False)
            return ExitCode.FAILED
        finally:
            database.dispose()
    return 0
