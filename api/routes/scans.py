"""Scans: submit, look, wait, cancel, report, delete."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from api import forms, links, uploads
from api.auth import MayAdminister, MayRead, MayScan, Scope
from api.bodies import MAX_JSON_BYTES, invalid_body, read_json
from api.deps import Has, Services
from api.examples import FILES_EXAMPLE, FORM_SCHEMA, HUB_EXAMPLE, SUBMIT_EXAMPLE
from api.ids import known_shape
from api.pagination import Limit, link_next
from api.problems import ProblemError
from api.routes import problems_for
from api.routes.blobs import check_room
from api.schemas import OPTION_FIELDS, ModelRef, SubmitRequest, options_from_fields
from api.submission import resolve_reference, submit
from api.views import ScanOut, ScanPage, SubmittedOut
from core.domain import JobState, Verdict
from core.errors import ForbiddenError, InvalidInputError
from core.jobs.views import ScanFilter, ScanView, Submitted
from core.registry.keys import Principal
from core.report.schema import Report

router = APIRouter(prefix="/v1/scans", tags=["scans"])

POLL_S = 0.25
RETRY_AFTER = {"Retry-After": "2"}

_SUBMIT_BODY = {
    "required": True,
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/SubmitRequest"},
            "examples": {
                "uploaded": {"summary": "Files uploaded before", "value": SUBMIT_EXAMPLE},
                "hub": {"summary": "A repository of the Hub", "value": HUB_EXAMPLE},
                "files": {"summary": "A model of several files uploaded before", "value": FILES_EXAMPLE},
            },
        },
        "multipart/form-data": {"schema": FORM_SCHEMA},
    },
}


@router.post(
    "",
    operation_id="submit_scan",
    summary="Submit a scan",
    status_code=202,
    response_model=SubmittedOut,
    responses=problems_for(401, 403, 404, 413, 415, 422, 429, 500, 502, 503, 507),
    openapi_extra={"requestBody": _SUBMIT_BODY},
)
async def submit_scan(request: Request, response: Response, who: MayScan, services: Has) -> SubmittedOut:
    """As JSON, naming uploaded blobs or a repository of the Hub, or as one form that carries the files. A Hub reference
    is resolved to a commit before the answer; its weights are fetched later. The same files, options and engine
    version are answered at once by the earlier result, or by the scan that is under way, unless `force` is true."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "application/json":
        submitted = await _submit_json(request, services, who)
    elif media_type == "multipart/form-data":
        submitted = await _submit_form(request, services, who)
    else:
        raise ProblemError(
            415, "unsupported_media_type", "Send application/json or multipart/form-data.", "curl: -F model=@FILE"
        )
    response.headers["Location"] = links.scan(submitted.scan.id)
    response.headers.update(RETRY_AFTER)
    return SubmittedOut.of_submission(submitted)


async def _submit_json(request: Request, services: Services, who: Principal) -> Submitted:
    asked = await read_json(request, SubmitRequest)
    reference = await run_in_threadpool(resolve_reference, services, who.org_id, asked.reference_set)
    return await run_in_threadpool(submit, services, who.org_id, asked.model, reference, asked)


async def _submit_form(request: Request, services: Services, who: Principal) -> Submitted:
    if not {Scope.UPLOAD, Scope.ADMIN} & set(who.scopes):
        raise ForbiddenError("missing_scope", "This key does not have the scope upload.", "Use a key that has it.")
    settings = services.settings
    check_room(services, uploads.declared_length(request) or 0)
    form = forms.StreamedForm(
        forms.boundary_of(request.headers["content-type"]),
        services.store,
        file_names=("model", "reference"),
        field_names=OPTION_FIELDS,
        max_bytes=settings.max_upload_bytes,
    )
    with form:
        # Two files, and some room for the fields and boundaries between them.
        await uploads.pump(uploads.blocks(request, 2 * settings.max_upload_bytes + MAX_JSON_BYTES), form.write)
        return await run_in_threadpool(_commit_form, form, services, who)


def _commit_form(form: forms.StreamedForm, services: Services, who: Principal) -> Submitted:
    """Nothing of the form is kept unless all of it is right. Blocking."""
    form.finish()
    if "model" not in form.files:
        raise InvalidInputError("invalid_form", "The form has no file `model`.", "curl: -F model=@FILE")
    try:
        options = options_from_fields(form.fields)
    except ValidationError as error:
        raise invalid_body(error) from None
    options.to_config(has_reference="reference" in form.files)
    services.jobs.check_stored_quota(who.org_id, sum(part.writer.size for part in form.files.values()))
    digests = {}
    for name, part in form.files.items():
        blob = part.writer.commit()
        services.jobs.register_blob(who.org_id, blob)
        digests[name] = blob.sha256
    model = ModelRef(blob=digests["model"], filename=form.files["model"].filename)
    return submit(services, who.org_id, model, digests.get("reference"), options)


@router.get(
    "",
    operation_id="list_scans",
    summary="List scans",
    response_model=ScanPage,
    responses=problems_for(401, 403, 422),
)
def list_scans(
    request: Request,
    response: Response,
    who: MayRead,
    services: Has,
    state: JobState | None = None,
    verdict: Verdict | None = None,
    model_sha256: Annotated[str | None, Query(pattern=r"^[0-9a-f]{64}$")] = None,
    limit: Limit = 50,
    cursor: Annotated[
        str | None, Query(pattern=r"^[0-9A-Za-z_.=-]{1,200}$", description="From the Link header.")
    ] = None,
) -> ScanPage:
    """Newest first. Pages stay right while scans are added."""
    page = services.jobs.list(who.org_id, ScanFilter(state, verdict, model_sha256), limit, cursor)
    link_next(request, response, page.next_cursor)
    return ScanPage(items=[ScanOut.of(view) for view in page.items], next_cursor=page.next_cursor)


@router.get(
    "/{scan_id}",
    operation_id="get_scan",
    summary="Look at a scan, or wait for it",
    response_model=ScanOut,
    responses=problems_for(401, 403, 404, 422),
)
async def get_scan(
    request: Request,
    response: Response,
    scan_id: str,
    who: MayRead,
    services: Has,
    wait: Annotated[float, Query(ge=0, le=60, allow_inf_nan=False, description="Seconds to wait for a change.")] = 0,
) -> ScanOut:
    """With `wait` the answer comes when state, stage or verdict changes, or after that many seconds.
    A scan that is over is answered at once."""
    view = await run_in_threadpool(services.jobs.get, who.org_id, known_shape(scan_id, "scan"))
    until = asyncio.get_running_loop().time() + wait
    seen = _situation(view)
    while (
        not view.state.is_terminal
        and _situation(view) == seen
        and asyncio.get_running_loop().time() < until
        and not services.stopping.is_set()
        and not await request.is_disconnected()
    ):
        await asyncio.sleep(min(POLL_S, max(until - asyncio.get_running_loop().time(), 0)))
        view = await run_in_threadpool(services.jobs.get, who.org_id, scan_id)
    if not view.state.is_terminal:
        response.headers.update(RETRY_AFTER)
    return ScanOut.of(view)


def _situation(view: ScanView) -> tuple[object, ...]:
    return view.state, view.stage, view.verdict


@router.post(
    "/{scan_id}/cancel",
    operation_id="cancel_scan",
    summary="Cancel a scan",
    status_code=202,
    response_model=ScanOut,
    responses=problems_for(401, 403, 404, 409),
)
def cancel_scan(scan_id: str, who: MayScan, services: Has) -> ScanOut:
    """A queued scan is canceled at once, a running one within seconds; one that is over stays as it is (409)."""
    return ScanOut.of(services.jobs.request_cancel(who.org_id, known_shape(scan_id, "scan")))


@router.get(
    "/{scan_id}/report",
    operation_id="get_report",
    summary="The whole report",
    response_model=Report,
    responses=problems_for(401, 403, 404, 409),
)
def get_report(scan_id: str, who: MayRead, services: Has) -> Response:
    """The versioned JSON report of a scan that has succeeded, exactly as it was written then."""
    return JSONResponse(services.jobs.report(who.org_id, known_shape(scan_id, "scan")))


@router.delete(
    "/{scan_id}",
    operation_id="delete_scan",
    summary="Delete a scan",
    status_code=204,
    responses=problems_for(401, 403, 404, 409),
)
def delete_scan(scan_id: str, who: MayAdminister, services: Has) -> None:
    """The scan, its report and the files that only it refers to. A live scan must be canceled first (409)."""
    services.jobs.delete_scan(who.org_id, known_shape(scan_id, "scan"))
