"""Request ids, security headers, and the last net under every request."""

import logging
import re
import secrets
import time

from starlette.datastructures import MutableHeaders
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import internal_error

log = logging.getLogger(__name__)

DOCS_PATH = "/docs"  # the one page with scripts of its own

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


class RequestMiddleware:
    """Gives each request an id, each response its headers, and each unexpected exception a problem document.

    It is plain ASGI: a streamed body passes through it without being touched.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started, began, status = False, time.monotonic(), 0

        async def send_with_headers(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                if scope["path"] != DOCS_PATH:
                    headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'; sandbox"
                headers["Referrer-Policy"] = "no-referrer"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            await self.app(scope, receive, send_with_headers)
        except ClientDisconnect:
            log.info("the client of request %s went away", request_id)
        except Exception:
            if started:
                # Too late for a problem document: the server closes the connection, so the body ends short.
                raise
            log.exception("unexpected error in request %s", request_id)
            await internal_error(Request(scope))(scope, receive, send_with_headers)
        finally:
            wall_ms = round((time.monotonic() - began) * 1000)
            path = ascii(scope["path"])
            # Clients that wait for a scan ask every second: what goes well and changes nothing is not worth a line.
            quiet = scope["method"] in ("GET", "HEAD") and 200 <= status < 400
            level = logging.DEBUG if quiet else logging.INFO
            log.log(level, "%s %s %s %d ms %s", scope["method"], status, path, wall_ms, request_id)


def _request_id(scope: Scope) -> str:
    """The caller's own id if it is harmless, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return str(text)
    return secrets.token_hex(8)
