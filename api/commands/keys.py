"""`assay keys`: made and revoked on the host, beside the database."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.table import Table
from rich.text import Text

from api.auth import Scope
from api.commands.common import err, exit_code_of, explain, load_settings, out, print_json
from core.errors import AssayError, NotFoundError
from core.registry.keys import ApiKeyService, ApiKeyView


def create(name: str, scopes: Sequence[Scope], org_id: str, expires_days: float | None, *, as_json: bool) -> int:
    """Print the new key alone on standard output: it cannot be shown again."""
    expires_at = None if expires_days is None else datetime.now(UTC) + timedelta(days=expires_days)
    try:
        with _service() as keys:
            plaintext, view = keys.create(org_id, name, [scope.value for scope in scopes], expires_at)
    except AssayError as error:
        explain(error, as_json=as_json)
        return exit_code_of(error)
    if as_json:
        print_json({"key": plaintext, **_fields(view)})
    else:
        out().file.write(plaintext + "\n")
        err().print(f"{view.id}: {', '.join(view.scopes)}. Keep it: it is not shown again.", markup=False)
    return 0


def show(org_id: str, *, as_json: bool) -> int:
    """All keys of an organisation, without their secrets."""
    try:
        with _service() as keys:
            views = keys.list(org_id)
    except AssayError as error:
        explain(error, as_json=as_json)
        return exit_code_of(error)
    if as_json:
        print_json([_fields(view) for view in views])
        return 0
    table = Table(box=None)
    for column in ("key", "name", "prefix", "scopes", "created", "last used", "state"):
        table.add_column(column)
    for view in views:
        cells = (
            view.id,
            view.name,
            view.prefix,
            " ".join(view.scopes),
            _when(view.created_at),
            _when(view.last_used_at),
            _state(view),
        )
        table.add_row(*map(Text, cells))
    out().print(table)
    return 0


def revoke(key: str, org_id: str) -> int:
    """By id or by prefix; works from the next request on."""
    try:
        with _service() as keys:
            found = next((view for view in keys.list(org_id) if key in (view.id, view.prefix)), None)
            if found is None:
                raise NotFoundError("key_not_found", "There is no such key.")
            keys.revoke(org_id, found.id)
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    err().print(f"{found.id} is revoked.", markup=False)
    return 0


@contextmanager
def _service() -> Iterator[ApiKeyService]:
    from api.app import prepare_database

    database = prepare_database(load_settings())
    try:
        yield ApiKeyService(database)
    finally:
        database.dispose()


def _fields(view: ApiKeyView) -> dict[str, object]:
    return {
        "id": view.id,
        "org_id": view.org_id,
        "name": view.name,
        "prefix": view.prefix,
        "scopes": list(view.scopes),
        "created_at": _when(view.created_at),
        "expires_at": _when(view.expires_at),
        "revoked_at": _when(view.revoked_at),
        "last_used_at": _when(view.last_used_at),
    }


def _when(moment: datetime | None) -> str:
    return "" if moment is None else moment.isoformat(timespec="seconds")


def _state(view: ApiKeyView) -> str:
    if view.revoked_at is not None:
        return "revoked"
    if view.expires_at is not None and view.expires_at <= datetime.now(UTC):
        return "expired"
    return "active"
