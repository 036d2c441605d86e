"""`assay hub-token`: kept on the host, beside the database. A token is never an argument: those can be listed."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import SecretStr
from rich.table import Table
from rich.text import Text

from api.commands.common import err, exit_code_of, explain, load_settings, out, print_json
from core.errors import AssayError
from core.registry.hub_tokens import HubTokens
from worker.hub import hub_tokens


def put(org_id: str) -> int:
    """Ask for the token, or read it from standard input; keep it sealed."""
    text = getpass.getpass("Hub token: ") if sys.stdin.isatty() else sys.stdin.readline()
    try:
        with _service() as (tokens, endpoint):
            tokens.set(org_id, endpoint, SecretStr(text.strip()))
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    err().print(f"The token of {org_id} for {endpoint} is set.", markup=False)
    return 0


def show(org_id: str, *, as_json: bool) -> int:
    """For which endpoints the organisation has a token; nothing of the tokens."""
    try:
        with _service() as (tokens, _):
            views = tokens.list(org_id)
    except AssayError as error:
        explain(error, as_json=as_json)
        return exit_code_of(error)
    rows = [(view.org_id, view.endpoint, view.created_at.isoformat(timespec="seconds")) for view in views]
    if as_json:
        print_json([dict(zip(("org_id", "endpoint", "created_at"), row, strict=True)) for row in rows])
        return 0
    table = Table(box=None)
    for column in ("organisation", "endpoint", "set"):
        table.add_column(column)
    for row in rows:
        table.add_row(*map(Text, row))
    out().print(table)
    return 0


def remove(org_id: str) -> int:
    """Forget the organisation's token for the configured endpoint."""
    try:
        with _service() as (tokens, endpoint):
            tokens.remove(org_id, endpoint)
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    err().print(f"The token of {org_id} for {endpoint} is removed.", markup=False)
    return 0


@contextmanager
def _service() -> Iterator[tuple[HubTokens, str]]:
    from api.app import prepare_database

    settings = load_settings()
    database = prepare_database(settings)
    try:
        yield hub_tokens(settings, database), settings.hub_endpoint.rstrip("/")
    finally:
        database.dispose()
