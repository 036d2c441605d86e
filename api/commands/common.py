"""What commands share: exit codes, consoles, the client."""

import json
from enum import IntEnum
from functools import cache
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

from core.errors import AssayError

if TYPE_CHECKING:
    from api.client import Client
    from core.settings import Settings

DEFAULT_SERVER = "http://127.0.0.1:8000"


class ExitCode(IntEnum):
    """What the shell is told."""

    CLEAN = 0
    BACKDOORED = 1
    INCONCLUSIVE = 2
    FAILED = 3
    REFUSED = 4  # unsupported or unsafe
    CANCELED = 5
    USAGE = 64


class GateExit(IntEnum):
    """What the shell is told by `assay gate`; everything but 0 means no."""

    ALLOW = 0
    BLOCK = 1
    UNDECIDED = 2  # unknown or pending
    ERROR = 3


@cache
def out() -> Console:
    """Standard output: results."""
    return Console(soft_wrap=True, highlight=False)


@cache
def err() -> Console:
    """Standard error: progress and complaints."""
    return Console(stderr=True, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """`value` as indented JSON on standard output, free of colours and wrapping."""
    out().file.write(json.dumps(value, indent=2, sort_keys=False) + "\n")


def load_settings() -> "Settings":
    """The settings from the environment.

    Raises:
        typer.BadParameter: what is wrong with the environment is wrong usage.
    """
    from pydantic import ValidationError

    from core.settings import Settings

    try:
        return Settings()
    except ValidationError as error:
        wrong = [f"{_variable(item['loc'])}: {item['msg']}" for item in error.errors()]
        raise typer.BadParameter("; ".join(wrong)) from None


def _variable(location: tuple[int | str, ...]) -> str:
    return "ASSAY_" + "_".join(map(str, location)).upper() if location else "settings"


def client(server: str | None) -> "Client":
    """A client of `server`, of ASSAY_SERVER, or of the default address, in this order."""
    from api.client import Client

    settings = load_settings()
    key = settings.api_key.get_secret_value() if settings.api_key else None
    return Client(server or settings.server or DEFAULT_SERVER, key)


def explain(error: AssayError, *, as_json: bool = False) -> None:
    """Say what went wrong: for people on standard error, and as JSON on standard output if asked to."""
    if as_json:
        print_json({"error": {"code": error.code, "detail": error.detail, "hint": error.hint}})
    err().print(f"{error.code}: {error.detail}", style="red", markup=False)
    if error.hint:
        err().print(error.hint, markup=False)


def exit_code_of(error: AssayError) -> ExitCode:
    """The exit code an error stands for."""
    if error.code == "canceled":
        return ExitCode.CANCELED
    if error.code.startswith(("unsupported_", "unsafe_")):
        return ExitCode.REFUSED
    return ExitCode.FAILED
