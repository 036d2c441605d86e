"""Models and where they come from."""

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool

from api.auth import MayAdminister, MayRead, MayScan
from api.bodies import json_body, read_json
from api.deps import Has, Services
from api.ids import known_shape
from api.routes import problems_for
from api.schemas import InspectRequest
from api.slots import Slots
from api.submission import resolve
from api.views import ModelOut
from core.jobs.wording import blob_not_found
from core.report.inspection import InspectionReport
from worker.children import Halt, real_children
from worker.inspection import inspect_model
from worker.workspace import work_root

router = APIRouter(prefix="/v1/models", tags=["models"])

_slots = Slots(2, "inspections_busy", "models are being looked at")


@router.post(
    ":inspect",
    operation_id="inspect_model",
    summary="Look at a model without scanning it",
    response_model=InspectionReport,
    responses=problems_for(400, 401, 403, 404, 413, 422, 429, 500, 502, 503, 507),
    openapi_extra=json_body(InspectRequest),
)
async def inspect(request: Request, who: MayScan, services: Has) -> InspectionReport:
    """A dry run: layout, architecture, classes, preprocessing, what the gate says, what a scan would need and cost.
    Nothing is searched for and nothing is kept. A model that is refused is answered with 200 and the reason."""
    asked = await read_json(request, InspectRequest)
    return await run_in_threadpool(_inspect, services, who.org_id, asked)


def _inspect(services: Services, org_id: str, asked: InspectRequest) -> InspectionReport:
    with _slots.one():
        config = asked.to_config()
        model = resolve(services, org_id, asked.model)
        if model.contents is None and not services.jobs.has_blob(org_id, model.sha256):
            raise blob_not_found()

        def halt() -> Halt | None:
            return Halt.DRAINING if services.stopping.is_set() else None

        placed = services.materials.place(org_id, model.sha256, model.contents, halt=halt)
        return inspect_model(
            placed.model_path,
            model.filename,
            placed.model_files,
            config,
            work_root(services.settings.data_dir),
            real_children(services.settings.sandbox),
            threads=services.settings.threads,
            should_stop=services.stopping.is_set,
        )


@router.get(
    "/{model_id}",
    operation_id="get_model",
    summary="Look at a model",
    response_model=ModelOut,
    responses=problems_for(401, 403, 404),
)
def get_model(model_id: str, who: MayRead, services: Has) -> ModelOut:
    """Its files, its scans, and its lineage: what it was purified from, what was purified from it."""
    return ModelOut.of(services.jobs.get_model(who.org_id, known_shape(model_id, "model")))


@router.delete(
    "/{model_id}",
    operation_id="delete_model",
    summary="Delete a model",
    status_code=204,
    responses=problems_for(401, 403, 404, 409),
)
def delete_model(model_id: str, who: MayAdminister, services: Has) -> None:
    """The model, its scans and the files nothing else refers to. Live scans must be canceled first (409)."""
    services.jobs.delete_model(who.org_id, known_shape(model_id, "model"))
