"""Is the process alive, and can it do its work?"""

from collections.abc import Callable

from fastapi import APIRouter, Response
from pydantic import BaseModel

from api.deps import Has
from core import __version__
from core.domain import SandboxMode
from core.errors import AssayError
from worker import sandbox

router = APIRouter(tags=["health"])


class HealthOut(BaseModel):
    """The process is alive."""

    status: str
    version: str


class ReadyOut(BaseModel):
    """Whether everything the service needs is there; each check is `ok` or the code of what is wrong."""

    ready: bool
    checks: dict[str, str]


@router.get("/healthz", operation_id="healthz", summary="Alive?", response_model=HealthOut)
async def healthz() -> HealthOut:
    """Answers as long as the event loop turns; touches nothing else."""
    return HealthOut(status="ok", version=__version__)


@router.get(
    "/readyz",
    operation_id="readyz",
    summary="Able to work?",
    response_model=ReadyOut,
    responses={503: {"model": ReadyOut, "description": "Something is missing."}},
)
def readyz(response: Response, services: Has) -> ReadyOut:
    """Database, queue, and storage (writable, and more free space than the reserve).

    With the embedded worker also the sandbox, where all of it is required.
    """
    checks = {
        "database": _outcome(services.database.ping),
        "queue": _outcome(services.background.check),
        "storage": _outcome(services.store.probe),
    }
    if services.settings.is_embedded and services.settings.sandbox is SandboxMode.REQUIRED:
        checks["sandbox"] = _outcome(lambda: sandbox.require(SandboxMode.REQUIRED))
    ready = all(outcome == "ok" for outcome in checks.values())
    if not ready:
        response.status_code = 503
        response.headers["Retry-After"] = "5"
    return ReadyOut(ready=ready, checks=checks)


def _outcome(check: Callable[[], None]) -> str:
    try:
        check()
    except AssayError as error:
        return error.code
    return "ok"
