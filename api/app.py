"""The application: `create_app` is the factory, its lifespan the composition root of the API process."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from threading import Event

from fastapi import FastAPI

from api import openapi, problems
from api.auth import is_loopback
from api.background import Background
from api.deps import Services
from api.downloads import Verifier
from api.middleware import DOCS_PATH, RequestMiddleware
from api.routes import artifacts, blobs, gate, health, hub_token, models, reference_sets, scans, uploads
from core import __version__
from core.errors import ForbiddenError
from core.jobs.service import JobService
from core.registry.keys import ApiKeyService
from core.registry.session import Database
from core.settings import Settings
from core.storage.local import LocalBlobStore
from worker.hub import hub_desk, hub_tokens
from worker.materials import Materials

DESCRIPTION = (
    "Scans image classifiers for trained backdoors, hands back purified weights, and answers whether a file may be "
    "used. Job state, verdict and gate decision are three different answers: nothing that was not scanned looks clean."
)


def create_app(settings: Settings | None = None, *, bind_host: str | None = None) -> FastAPI:
    """The API. Cheap: connections are made, and Celery is imported, only in the lifespan.

    Args:
        settings: the deployment; None: from the environment.
        bind_host: the interface it is served on, if known. With one that is not loopback nobody goes without a key.
    """
    settings = settings or Settings()
    app = FastAPI(
        title="Assay",
        version=__version__,
        description=DESCRIPTION,
        lifespan=_lifespan,
        docs_url=DOCS_PATH,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.settings = settings
    app.state.bind_host = bind_host
    app.state.stopping = Event()
    for module in (blobs, uploads, reference_sets, scans, artifacts, models, gate, hub_token, health):
        app.include_router(module.router)
    problems.install(app)
    app.add_middleware(RequestMiddleware)
    openapi.install(app)
    return app


def prepare_database(settings: Settings, bind_host: str | None = None) -> Database:
    """The database, upgraded on the embedded default; elsewhere that is `assay db upgrade`.

    Raises:
        ForbiddenError: ("keys_required") `bind_host` is not loopback and there is no active key.
        UnavailableError: the database does not answer, or has no tables yet.
    """
    database = Database(settings.resolved_database_url)
    try:
        if settings.is_embedded and not settings.database_url:
            database.upgrade()
        if bind_host is not None and not is_loopback(bind_host) and not ApiKeyService(database).any_active():
            raise ForbiddenError(
                "keys_required",
                f"Serving on {bind_host} without any API key would let everybody in.",
                "Create one first (`assay keys create NAME`), or bind to 127.0.0.1.",
            )
    except BaseException:
        database.dispose()
        raise
    return database


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    settings: Settings = app.state.settings
    bind_host: str | None = app.state.bind_host
    database = await asyncio.to_thread(prepare_database, settings, bind_host)
    store = LocalBlobStore(settings.blobs_dir, settings.free_space_reserve_bytes)
    jobs = JobService(database, store, settings)
    desk = hub_desk(settings, database)
    background = Background(settings, jobs, store, desk)
    app.state.services = Services(
        settings=settings,
        database=database,
        store=store,
        verifier=Verifier(store),
        materials=Materials(jobs, store, desk),
        jobs=jobs,
        keys=ApiKeyService(database),
        hub_tokens=hub_tokens(settings, database),
        background=background,
        open_on_loopback=settings.is_embedded and (bind_host is None or is_loopback(bind_host)),
        stopping=app.state.stopping,
    )
    background.start()
    try:
        yield
    finally:
        app.state.stopping.set()
        await asyncio.to_thread(background.stop)
        database.dispose()
