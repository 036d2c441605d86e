"""Models and where they come from."""

from typing import Annotated

from fastapi import APIRouter, Depends

from api.auth import Scope, requires
from api.deps import Services, services_of
from api.ids import known_shape
from api.routes import problems_for
from api.views import ModelOut
from core.registry.keys import Principal

router = APIRouter(prefix="/v1/models", tags=["models"])

MayRead = Annotated[Principal, Depends(requires(Scope.READ))]
MayDelete = Annotated[Principal, Depends(requires(Scope.ADMIN))]
Has = Annotated[Services, Depends(services_of)]


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
def delete_model(model_id: str, who: MayDelete, services: Has) -> None:
    """The model, its scans and the files nothing else refers to. Live scans must be canceled first (409)."""
    services.jobs.delete_model(who.org_id, known_shape(model_id, "model"))
