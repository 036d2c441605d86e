"""`assay serve`: the API, with the worker embedded when there is no broker."""

import logging
import logging.config
import signal
import socket
from types import FrameType
from typing import Any

import uvicorn

from api.app import create_app, prepare_database
from api.commands.common import ExitCode, err, exit_code_of, explain, load_settings
from core.errors import AssayError

STOP_S = 10  # what open connections are given when the server stops

_LOGGING: dict[str, Any] = {  # each API process configures itself with it
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"level": "INFO", "handlers": ["stderr"]},
    "loggers": {name: {"level": "WARNING"} for name in ("celery", "kombu", "alembic", "uvicorn.error")},
}
_OPTIONS: dict[str, Any] = {
    "http": "httptools",
    "access_log": False,
    "timeout_graceful_shutdown": STOP_S,
    "server_header": False,
    "proxy_headers": False,
    "log_config": _LOGGING,
}


class _Server(uvicorn.Server):
    """Tells long polls to answer as soon as the server is asked to stop."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.stopping.set()  # type: ignore[union-attr]  # the app object, not its name
        super().handle_exit(sig, frame)


def run(host: str, port: int, workers: int) -> int:
    """Serve until SIGTERM or SIGINT."""
    settings = load_settings()
    if workers > 1 and settings.is_embedded:
        err().print("More than one API process needs a broker: set ASSAY_BROKER_URL, or use --workers 1.", style="red")
        return ExitCode.USAGE
    logging.config.dictConfig(_LOGGING)
    try:  # the lifespan does this again, but would bury what is wrong in a traceback
        prepare_database(settings, host).dispose()
    except AssayError as error:
        explain(error)
        return exit_code_of(error)
    except (OSError, ValueError) as error:
        err().print(f"The database cannot be opened: {error}", style="red", markup=False)
        return ExitCode.FAILED
    if workers > 1:
        uvicorn.run("api.app:create_app", factory=True, host=host, port=port, workers=workers, **_OPTIONS)
        return 0
    server = _Server(uvicorn.Config(create_app(settings, bind_host=host), host=host, port=port, **_OPTIONS))
    try:
        bound = _bind(host, port)
    except OSError as error:
        err().print(f"Cannot listen on {host}:{port}: {error.strerror}.", style="red", markup=False)
        return ExitCode.FAILED
    # The server ends gracefully and then raises the signal again; having been asked to stop is no failure.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with bound:
        logging.getLogger(__name__).info("serving on http://%s:%d", host, bound.getsockname()[1])
        server.run(sockets=[bound])
    return 0 if server.started else ExitCode.FAILED


def _bind(host: str, port: int) -> socket.socket:
    """A socket of our own: with port 0 the log can say which one it became."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound
