"""The gate: may this exact file be used?"""

from typing import Annotated

from fastapi import APIRouter, Query

from api.auth import MayAskGate
from api.deps import Has
from api.routes import problems_for
from api.views import GateOut

router = APIRouter(prefix="/v1/gate", tags=["gate"])


@router.get(
    "",
    operation_id="ask_gate",
    summary="May this file be used?",
    response_model=GateOut,
    responses=problems_for(401, 403, 422, 503),
)
def ask_gate(
    sha256: Annotated[str, Query(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the file in question.")],
    who: MayAskGate,
    services: Has,
) -> GateOut:
    """Fails closed: only a 200 with `allow` true is a yes. Unknown, pending and failed are a no with a reason."""
    return GateOut.of(sha256, services.jobs.gate(who.org_id, sha256))
