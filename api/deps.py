"""What the app's lifespan makes and routes are given."""

from dataclasses import dataclass
from threading import Event
from typing import Annotated

from fastapi import Depends, Request

from api.background import Background
from api.downloads import Verifier
from core.jobs.service import JobService
from core.registry.hub_tokens import HubTokens
from core.registry.keys import ApiKeyService
from core.registry.session import Database
from core.settings import Settings
from core.storage.protocol import BlobStore
from worker.materials import Materials


@dataclass(frozen=True, slots=True)
class Services:
    """Made once per process (api.app).

    Args:
        open_on_loopback: whether callers on the loopback interface may go without a key (api.auth).
        stopping: set when the server was asked to stop, so that nobody waits for long any more.
    """

    settings: Settings
    database: Database
    store: BlobStore
    verifier: Verifier
    materials: Materials
    jobs: JobService
    keys: ApiKeyService
    hub_tokens: HubTokens
    background: Background
    open_on_loopback: bool
    stopping: Event

    @property
    def hub_endpoint(self) -> str:
        """What Hub tokens are kept for."""
        return self.settings.hub_endpoint.rstrip("/")


def services_of(request: Request) -> Services:
    """The services of the app that handles `request`."""
    found: Services = request.app.state.services
    return found


Has = Annotated[Services, Depends(services_of)]
