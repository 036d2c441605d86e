"""Who is asking: API keys as bearer tokens, and nobody in particular on the loopback interface.

Without a key a request is accepted only if all of this holds: the deployment is the embedded default and
was not bound to another interface; the connection arrived on a loopback address; no proxy forwarded it;
and it was not a page in a browser that sent it (the Host is a loopback name, which defeats rebinding, and
an Origin is the service itself).
"""

import ipaddress
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request

from api.deps import Has, Services
from core.errors import ForbiddenError, UnauthorizedError
from core.registry.ids import DEFAULT_ORG
from core.registry.keys import Principal


class Scope(StrEnum):
    """What a key may do. `admin` includes all others."""

    UPLOAD = "upload"
    SCAN = "scan"
    READ = "read"
    DOWNLOAD = "download"
    GATE = "gate"
    ADMIN = "admin"


_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_HOSTS = {"localhost", "127.0.0.1", "::1"}
LOCAL = Principal(org_id=DEFAULT_ORG, key_id="", scopes=frozenset(Scope))


def is_loopback(host: str) -> bool:
    """Whether `host` is a loopback address or name."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_local(request: Request) -> bool:
    server = request.scope.get("server")
    if not server or not is_loopback(str(server[0])):
        return False
    headers = request.headers
    if any(name in headers for name in _FORWARDED):
        return False
    host = headers.get("host", "")
    if _hostname(f"//{host}") not in _HOSTS:
        return False
    origin = headers.get("origin")
    return origin is None or origin == f"http://{host}"


def _hostname(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def authenticate(request: Request, services: Services) -> Principal:
    """Whoever sent `request`. Blocking (database).

    Raises:
        UnauthorizedError: a key is needed and there is none, or the one given is not valid (any more).
    """
    header = request.headers.get("authorization")
    if header is None:
        if services.open_on_loopback and _is_local(request):
            return LOCAL
        raise UnauthorizedError(
            "key_required", "This needs an API key.", "Send it as `Authorization: Bearer assay_...`; see `assay keys`."
        )
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise UnauthorizedError("invalid_key", "The Authorization header is not `Bearer <key>`.")
    return services.keys.authenticate(token.strip())


def requires(scope: Scope) -> Callable[..., Principal]:
    """Dependency: the caller, if allowed to `scope`.

    Raises:
        ForbiddenError: a valid key without that scope.
    """

    def principal(request: Request, services: Has) -> Principal:
        who = authenticate(request, services)
        if scope not in who.scopes and Scope.ADMIN not in who.scopes:
            raise ForbiddenError(
                "missing_scope", f"This key does not have the scope {scope.value}.", "Use a key that has it."
            )
        return who

    return principal


MayUpload = Annotated[Principal, Depends(requires(Scope.UPLOAD))]
MayScan = Annotated[Principal, Depends(requires(Scope.SCAN))]
MayRead = Annotated[Principal, Depends(requires(Scope.READ))]
MayDownload = Annotated[Principal, Depends(requires(Scope.DOWNLOAD))]
MayAskGate = Annotated[Principal, Depends(requires(Scope.GATE))]
MayAdminister = Annotated[Principal, Depends(requires(Scope.ADMIN))]
