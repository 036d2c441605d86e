"""Resumable uploads: tus 1.0 at /v1/uploads."""

import asyncio
from contextlib import ExitStack
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from api import links, tus, uploads
from api.auth import MayUpload
from api.deps import Has, Services
from api.ids import known_shape
from api.problems import ProblemError
from api.routes import problems_for
from api.routes.blobs import check_room, repr_digest
from api.views_intake import UploadList, UploadOut
from core.jobs.uploads import UploadView
from core.registry.keys import Principal
from core.storage.protocol import PartialBlob

router = APIRouter(prefix="/v1/uploads", tags=["uploads"], route_class=tus.TusRoute)

#: A connection that silently broke holds the lock for so long, while its client waits to go on.
STALL_S = 30.0

Tus = Annotated[None, Depends(tus.require_version)]


def _header(name: str, description: str, *, required: bool = True, kind: str = "string") -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": kind},
    }


_VERSION = _header("Tus-Resumable", "1.0.0")
_BODY = {"content": {tus.MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}
_OFFSET = _header("Upload-Offset", "Where the first byte of the body goes.", kind="integer")
_CHECKSUM = _header("Upload-Checksum", "sha1 or sha256, a space, the digest of the body in base64.", required=False)
_CREATION = [
    _VERSION,
    _header("Upload-Length", "Bytes in all.", kind="integer"),
    _header("Upload-Metadata", "sha256 (hexadecimal; verified at the end) and filename, in base64.", required=False),
]


@router.options(
    "",
    operation_id="uploads_options",
    summary="What the tus server offers",
    status_code=204,
    responses=problems_for(401, 403),
)
def options(who: MayUpload, services: Has) -> Response:
    """Tus-Version, Tus-Extension and Tus-Max-Size."""
    return Response(
        status_code=204,
        headers={
            "Tus-Version": tus.VERSION,
            "Tus-Extension": tus.EXTENSIONS,
            "Tus-Max-Size": str(services.settings.max_upload_bytes),
            "Tus-Checksum-Algorithm": ",".join(tus.CHECKSUMS),
        },
    )


@router.get(
    "",
    operation_id="list_uploads",
    summary="List open uploads",
    response_model=UploadList,
    responses=problems_for(401, 403),
)
def list_uploads(who: MayUpload, services: Has) -> UploadList:
    """Those that are not complete: a client that lost an address finds its upload here by the announced digest."""
    return UploadList(items=[UploadOut.of(view) for view in services.jobs.open_uploads(who.org_id)])


@router.post(
    "",
    operation_id="create_upload",
    summary="Begin a resumable upload",
    status_code=201,
    responses=problems_for(400, 401, 403, 412, 413, 415, 422, 429, 507),
    openapi_extra={"parameters": _CREATION, "requestBody": _BODY},
)
async def create_upload(request: Request, who: MayUpload, services: Has, _: Tus) -> Response:
    """Location is the upload's address. The first bytes may come along as the body. An Upload-Metadata with sha256
    has the bytes verified; without one they are kept under the digest they turn out to have."""
    new = tus.new_upload(request)
    has_body = tus.carries_bytes(request)
    if not has_body and (uploads.declared_length(request) or 0) > 0:
        raise _not_bytes()
    checksum = tus.checksum_of(request)
    check_room(services, new.length)
    view = await run_in_threadpool(services.jobs.create_upload, who.org_id, new)
    if has_body or view.length == 0:
        view = await _append(request, services, who, view.id, 0, checksum)
    headers = {**tus.headers_of(view), "Location": links.upload(view.id)}
    return Response(status_code=201, headers=headers)


@router.head(
    "/{upload_id}",
    operation_id="head_upload",
    summary="Ask how much of an upload is here",
    responses=problems_for(401, 403, 404, 412, 422),
    openapi_extra={"parameters": [_VERSION]},
)
def head_upload(upload_id: str, who: MayUpload, services: Has, _: Tus) -> Response:
    """Upload-Offset and Upload-Length; Assay-Blob is the digest of the stored bytes once all are here."""
    view = services.jobs.settle_upload(who.org_id, known_shape(upload_id, "upload"))
    headers = {**tus.headers_of(view), "Upload-Length": str(view.length)}
    if view.client_metadata:
        headers["Upload-Metadata"] = view.client_metadata
    if view.blob_sha256 is not None:
        headers["Repr-Digest"] = repr_digest(view.blob_sha256)
    return Response(headers=headers)


@router.get(
    "/{upload_id}",
    operation_id="get_upload",
    summary="An upload",
    response_model=UploadOut,
    responses=problems_for(401, 403, 404, 422),
)
def get_upload(upload_id: str, who: MayUpload, services: Has) -> UploadOut:
    """The same as JSON; no part of tus."""
    return UploadOut.of(services.jobs.settle_upload(who.org_id, known_shape(upload_id, "upload")))


@router.patch(
    "/{upload_id}",
    operation_id="append_upload",
    summary="Add bytes to an upload",
    status_code=204,
    responses=problems_for(400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 423, 460, 507),
    openapi_extra={"parameters": [_VERSION, _OFFSET, _CHECKSUM], "requestBody": {"required": True, **_BODY}},
)
async def append_upload(request: Request, upload_id: str, who: MayUpload, services: Has, _: Tus) -> Response:
    """What arrives is kept, also when the connection breaks on the way. With the last byte the whole is verified and
    becomes a blob: Assay-Blob is its digest. If it is not the announced one, nothing is kept (422)."""
    upload_id = known_shape(upload_id, "upload")
    if not tus.carries_bytes(request):
        raise _not_bytes()
    offset, checksum = tus.offset_of(request), tus.checksum_of(request)
    view = await run_in_threadpool(services.jobs.upload, who.org_id, upload_id)
    if view.blob_sha256 is None:
        view = await _append(request, services, who, upload_id, offset, checksum)
    else:  # the answer to the last byte may have been lost: saying it again must not be an error
        _check_offset(offset, view.offset)
        await uploads.read_small(request, 0)
    return Response(status_code=204, headers=tus.headers_of(view))


@router.delete(
    "/{upload_id}",
    operation_id="delete_upload",
    summary="Give an upload up",
    status_code=204,
    responses=problems_for(401, 403, 404, 412, 423),
    openapi_extra={"parameters": [_VERSION]},
)
def delete_upload(upload_id: str, who: MayUpload, services: Has, _: Tus) -> None:
    """Its bytes are removed. A blob that it has become stays."""
    services.jobs.delete_upload(who.org_id, known_shape(upload_id, "upload"))


@router.post("/{upload_id}", include_in_schema=False)
async def override(request: Request, upload_id: str, who: MayUpload, services: Has, _: Tus) -> Response:
    """For clients whose environment knows neither PATCH nor DELETE: X-HTTP-Method-Override, as tus has it."""
    method = request.headers.get("x-http-method-override", "").upper()
    if method == "PATCH":
        return await append_upload(request, upload_id, who, services, None)
    if method == "HEAD":
        return await run_in_threadpool(head_upload, upload_id, who, services, None)
    if method == "DELETE":
        await run_in_threadpool(delete_upload, upload_id, who, services, None)
        return Response(status_code=204)
    raise ProblemError(
        405, "method_not_allowed", "This address does not answer to that method.", headers={"Allow": "HEAD, PATCH"}
    )


async def _append(
    request: Request, services: Services, who: Principal, upload_id: str, offset: int, checksum: tus.Checksum | None
) -> UploadView:
    """Write the body behind `offset`; a blob when that was all. The disk is only touched in threads."""
    jobs, held = services.jobs, ExitStack()
    try:
        view, partial = await asyncio.to_thread(held.enter_context, jobs.write_upload(who.org_id, upload_id))
        _check_offset(offset, partial.size)
        await _receive(request, partial, view.length, checksum)
        if partial.size == view.length:
            return await asyncio.to_thread(jobs.complete_upload, view, partial)
        return replace(view, offset=partial.size)
    finally:
        await asyncio.to_thread(held.close)


async def _receive(request: Request, partial: PartialBlob, length: int, checksum: tus.Checksum | None) -> None:
    """Nothing of a body with a checksum stays unless all of it came and is right."""
    start = partial.size

    def consume(block: bytes) -> None:
        partial.write(block)
        if checksum is not None:
            checksum.running.update(block)

    source = uploads.blocks(request, length - start, STALL_S)
    if checksum is None:
        await uploads.pump(source, consume)
        return
    try:
        await uploads.pump(source, consume)
        if not checksum.is_right:
            raise ProblemError(460, "checksum_mismatch", "The bytes do not have the checksum that came with them.")
    except BaseException:
        await asyncio.to_thread(partial.rollback, start)
        raise


def _check_offset(claimed: int, actual: int) -> None:
    if claimed != actual:
        raise ProblemError(
            409,
            "offset_mismatch",
            f"The upload has {actual} bytes; Upload-Offset says {claimed}.",
            "Ask for the offset with HEAD, and go on from there.",
            headers={"Upload-Offset": str(actual)},
        )


def _not_bytes() -> ProblemError:
    return ProblemError(415, "unsupported_media_type", f"The body must be {tus.MEDIA_TYPE}.")
