"""`assay doctor`: what this host has and lacks."""

import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from urllib.parse import urlsplit

from rich.table import Table
from rich.text import Text

import core
from api.commands.common import ExitCode, load_settings, out, print_json
from core.domain import SandboxMode
from core.errors import AssayError
from core.settings import Settings
from worker import sandbox

TORCH_FLOOR = (2, 10)
_CONNECT_S = 2.0


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


_STYLE = {Level.OK: "green", Level.WARNING: "yellow", Level.ERROR: "red"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    level: Level
    detail: str


def run(*, as_json: bool) -> int:
    """Exit status 3 if anything is an error; warnings are none."""
    findings = list(examine(load_settings()))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        table = Table.grid(padding=(0, 2))
        for finding in findings:
            table.add_row(finding.name, Text(finding.level, style=_STYLE[finding.level]), Text(finding.detail))
        out().print(table)
    return ExitCode.FAILED if any(finding.level is Level.ERROR for finding in findings) else 0


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything worth knowing before the first scan; nothing is changed."""
    yield _python()
    yield _package()
    yield _torch()
    yield _threads(settings)
    yield _disk(settings)
    yield from _sandbox(settings)
    yield _database(settings)
    yield _broker(settings)


def _python() -> Finding:
    text = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036  # a source tree can be run with any interpreter
        return Finding("python", Level.ERROR, f"{text}; 3.11 or newer is needed")
    if sys.version_info < (3, 11, 13):
        return Finding("python", Level.WARNING, f"{text}; 3.11.13 or newer has fixes for hostile archives")
    return Finding("python", Level.OK, text)


def _package() -> Finding:
    """Another distribution's top-level `core` in site-packages would shadow ours."""
    found, ours = Path(core.__file__).resolve().parent, Path(__file__).resolve().parents[2] / "core"
    if found != ours:
        return Finding("core", Level.ERROR, f"`import core` finds {found}, not {ours}; put our folder first")
    return Finding("core", Level.OK, str(found))


def _torch() -> Finding:
    try:
        text = version("torch")
    except PackageNotFoundError:
        return Finding("torch", Level.WARNING, "not installed: enough for the API, not for scans")
    if tuple(int(part) for part in text.split("+")[0].split(".")[:2]) < TORCH_FLOOR:
        return Finding("torch", Level.ERROR, f"{text}; older than 2.10 reads hostile files unsafely")
    return Finding("torch", Level.OK, text)


def _threads(settings: Settings) -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    used = settings.threads or usable
    level = Level.OK if used <= usable else Level.WARNING
    return Finding("threads", level, f"{used} per scan, {usable} usable cores")


def _disk(settings: Settings) -> Finding:
    folder = settings.data_dir.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free, reserve = shutil.disk_usage(existing).free, settings.free_space_reserve_bytes
    text = f"{folder}: {free / 2**30:.1f} GiB free, {reserve / 2**30:.1f} GiB kept in reserve"
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("storage", Level.ERROR, f"{folder} cannot be written")
    return Finding("storage", Level.OK if free > reserve else Level.ERROR, text)


def _sandbox(settings: Settings) -> Iterator[Finding]:
    """Which layers confine the process that parses uploads; a missing one is an error where all are required."""
    required = settings.sandbox is SandboxMode.REQUIRED
    for layer in sandbox.probe():
        level = Level.OK if layer.active else Level.ERROR if required and layer.essential else Level.WARNING
        yield Finding(f"sandbox: {layer.name}", level, f"{'yes' if layer.active else 'no'}: {layer.detail}")


def _database(settings: Settings) -> Finding:
    from core.registry.session import Database, normalise_url

    try:
        url = normalise_url(settings.resolved_database_url)
    except ValueError as error:
        return Finding("database", Level.ERROR, str(error))
    shown = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and not Path(str(url.database)).exists():
        return Finding("database", Level.OK, f"{shown} (made by the first `assay serve`)")
    database = Database(settings.resolved_database_url)
    return _checked("database", shown, database.ping, database.dispose)


def _broker(settings: Settings) -> Finding:
    if not settings.broker_url:
        return Finding("queue", Level.OK, "embedded in the API process")
    address = urlsplit(settings.broker_url)
    where = f"{address.hostname}:{address.port or 6379}"
    try:
        socket.create_connection((address.hostname or "", address.port or 6379), _CONNECT_S).close()
    except OSError as error:
        return Finding("queue", Level.ERROR, f"{where} does not answer: {error.strerror or error}")
    return Finding("queue", Level.OK, f"{where} answers")


def _checked(name: str, shown: str, check: Callable[[], None], close: Callable[[], None]) -> Finding:
    try:
        check()
    except AssayError as error:
        return Finding(name, Level.ERROR, f"{shown}: {error.detail} {error.hint}".strip())
    finally:
        close()
    return Finding(name, Level.OK, f"{shown} answers")
