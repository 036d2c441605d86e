"""Commands for who runs a deployment: `assay keys`, `assay hub-token` and `assay db`."""

from typing import Annotated

import typer

from core.registry.ids import DEFAULT_ORG

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Org = Annotated[str, typer.Option(help="Organisation.")]

keys_app = typer.Typer(help="API keys of this deployment.", no_args_is_help=True)
hub_token_app = typer.Typer(help="Tokens for private and gated repositories of the Hub.", no_args_is_help=True)
db_app = typer.Typer(help="Schema of the database.", no_args_is_help=True)


@keys_app.command("create")
def keys_create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scopes: Annotated[
        list[str] | None,
        typer.Option("--scope", help="upload, scan, read, download, gate or admin; default: all but admin."),
    ] = None,
    org: Org = DEFAULT_ORG,
    expires_days: Annotated[float | None, typer.Option(min=0, max=36500, help="Default: never.")] = None,
    as_json: AsJson = False,
) -> None:
    """Make a key; it is shown once."""
    from api.auth import Scope
    from api.commands import keys

    known = {scope.value for scope in Scope}
    wanted = scopes or sorted(known - {Scope.ADMIN.value})
    if unknown := sorted(set(wanted) - known):
        raise typer.BadParameter(f"no such scope: {', '.join(unknown)}", param_hint="--scope")
    raise typer.Exit(keys.create(name, [Scope(scope) for scope in wanted], org, expires_days, as_json=as_json))


@keys_app.command("list")
def keys_list(org: Org = DEFAULT_ORG, as_json: AsJson = False) -> None:
    """All keys, without their secrets."""
    from api.commands import keys

    raise typer.Exit(keys.show(org, as_json=as_json))


@keys_app.command("revoke")
def keys_revoke(
    key: Annotated[str, typer.Argument(help="Id or prefix of the key.")],
    org: Org = DEFAULT_ORG,
) -> None:
    """Make a key worthless at once."""
    from api.commands import keys

    raise typer.Exit(keys.revoke(key, org))


@hub_token_app.command("set")
def hub_token_set(org: Org = DEFAULT_ORG) -> None:
    """Keep a token, encrypted; it is asked for, or read from standard input."""
    from api.commands import hub_token

    raise typer.Exit(hub_token.put(org))


@hub_token_app.command("list")
def hub_token_list(org: Org = DEFAULT_ORG, as_json: AsJson = False) -> None:
    """For which Hubs there is a token; nothing of the tokens."""
    from api.commands import hub_token

    raise typer.Exit(hub_token.show(org, as_json=as_json))


@hub_token_app.command("remove")
def hub_token_remove(org: Org = DEFAULT_ORG) -> None:
    """Forget the token for the configured Hub."""
    from api.commands import hub_token

    raise typer.Exit(hub_token.remove(org))


@db_app.command("upgrade")
def db_upgrade() -> None:
    """Bring the configured database to the newest schema."""
    from api.commands import db

    raise typer.Exit(db.upgrade())


@db_app.command("current")
def db_current() -> None:
    """Print the schema's revision; exit code 3 if it is not the newest."""
    from api.commands import db

    raise typer.Exit(db.current())


@db_app.command("check")
def db_check() -> None:
    """Whether migrations and code agree, tried on a scratch database."""
    from api.commands import db

    raise typer.Exit(db.check())
