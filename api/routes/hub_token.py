"""The organisation's token for the Hub: set, asked about, removed; never given out again."""

from datetime import datetime

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.concurrency import run_in_threadpool

from api.auth import MayAdminister
from api.bodies import json_body, read_json
from api.deps import Has
from api.routes import problems_for
from core.registry.hub_tokens import HubTokenView, token_not_found

router = APIRouter(prefix="/v1/hub-token", tags=["hub"])


class HubTokenRequest(BaseModel):
    """A token of the Hub that may read what shall be scanned, and nothing more."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token: SecretStr = Field(min_length=8, max_length=512)


class HubTokenOut(BaseModel):
    """That there is a token, and for which Hub; nothing of it."""

    endpoint: str
    created_at: datetime

    @classmethod
    def of(cls, view: HubTokenView) -> "HubTokenOut":
        return cls(endpoint=view.endpoint, created_at=view.created_at)


@router.put(
    "",
    operation_id="set_hub_token",
    summary="Set the Hub token",
    response_model=HubTokenOut,
    responses=problems_for(400, 401, 403, 413, 422, 500, 503),
    openapi_extra=json_body(HubTokenRequest),
)
async def set_hub_token(request: Request, who: MayAdminister, services: Has) -> HubTokenOut:
    """Kept encrypted, for the Hub this server is configured for, instead of the one there was."""
    asked = await read_json(request, HubTokenRequest)
    view = await run_in_threadpool(services.hub_tokens.set, who.org_id, services.hub_endpoint, asked.token)
    return HubTokenOut.of(view)


@router.get(
    "",
    operation_id="get_hub_token",
    summary="Ask whether there is a Hub token",
    response_model=HubTokenOut,
    responses=problems_for(401, 403, 404),
)
def get_hub_token(who: MayAdminister, services: Has) -> HubTokenOut:
    """404 if there is none."""
    for view in services.hub_tokens.list(who.org_id):
        if view.endpoint == services.hub_endpoint:
            return HubTokenOut.of(view)
    raise token_not_found()


@router.delete(
    "",
    operation_id="delete_hub_token",
    summary="Remove the Hub token",
    status_code=204,
    responses=problems_for(401, 403, 404),
)
def delete_hub_token(who: MayAdminister, services: Has) -> None:
    """It is not used any more from the next request on."""
    services.hub_tokens.remove(who.org_id, services.hub_endpoint)
