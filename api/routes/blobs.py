"""Uploads: PUT and HEAD /v1/blobs/{sha256}."""

import asyncio
import base64
import hashlib
import shutil
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from api import links, uploads
from api.auth import MayUpload
from api.deps import Has, Services
from api.routes import problems_for
from api.views import BlobOut
from core.errors import InvalidInputError, NotFoundError, StorageFullError
from core.storage.protocol import Blob

router = APIRouter(prefix="/v1/blobs", tags=["blobs"])

Digest = Annotated[
    str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the bytes, 64 lower-case hexadecimal digits.")
]

_BODY = {
    "required": True,
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}


@router.put(
    "/{sha256}",
    operation_id="put_blob",
    summary="Upload a file",
    response_model=BlobOut,
    status_code=201,
    responses={
        200: {"model": BlobOut, "description": "It was here already."},
        **problems_for(401, 403, 413, 422, 429, 507),
    },
    openapi_extra={"requestBody": _BODY},
)
async def put_blob(request: Request, response: Response, sha256: Digest, who: MayUpload, services: Has) -> BlobOut:
    """The raw bytes are the body. They are hashed while they arrive; they are kept, durably, only if the digest is
    the announced one. Sending the same file again changes nothing."""
    limit = services.settings.max_upload_bytes
    announced = uploads.declared_length(request) or 0
    check_room(services, announced)
    known = await asyncio.to_thread(_is_here, services, who.org_id, sha256)
    source = uploads.blocks(request, limit)
    if known:
        blob = await _compare(source, sha256)
    else:
        await asyncio.to_thread(services.jobs.check_stored_quota, who.org_id, announced)
        with services.store.writer(limit) as writer:
            await uploads.pump(source, writer.write)
            await asyncio.to_thread(services.jobs.check_stored_quota, who.org_id, writer.size)
            blob = await asyncio.to_thread(writer.commit, sha256)
        await asyncio.to_thread(services.jobs.register_blob, who.org_id, blob)
    response.status_code = 200 if known else 201
    response.headers["Location"] = links.blob(sha256)
    return BlobOut(sha256=blob.sha256, size_bytes=blob.size_bytes)


@router.head(
    "/{sha256}",
    operation_id="head_blob",
    summary="Ask whether a file is here",
    responses={404: {"description": "It is not, or not for this organisation."}, **problems_for(401, 403)},
)
def head_blob(sha256: Digest, who: MayUpload, services: Has) -> Response:
    """200 with Content-Length and Repr-Digest if this organisation has uploaded that file."""
    if not _is_here(services, who.org_id, sha256):
        raise NotFoundError("blob_not_found", "There is no such blob.", "Upload it with PUT /v1/blobs/{sha256}.")
    return Response(
        headers={"Content-Length": str(services.store.size(sha256)), "Repr-Digest": repr_digest(sha256)},
        media_type="application/octet-stream",
    )


def check_room(services: Services, announced: int) -> None:
    """Raises StorageFullError if so many bytes more would eat into the reserve of free space."""
    settings = services.settings
    free = shutil.disk_usage(settings.data_dir).free
    if free - announced < settings.free_space_reserve_bytes:
        raise StorageFullError("storage_full", "There is not enough room to store this.", "Free disk space first.")


def repr_digest(sha256: str) -> str:
    """A Repr-Digest header (RFC 9530)."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(sha256)).decode()}:"


def _is_here(services: Services, org_id: str, sha256: str) -> bool:
    return services.jobs.has_blob(org_id, sha256) and services.store.exists(sha256)


async def _compare(source: AsyncIterator[bytes], sha256: str) -> Blob:
    """Read a body that is stored already, without writing it again."""
    running, size = hashlib.sha256(), 0

    def consume(block: bytes) -> None:
        nonlocal size
        running.update(block)
        size += len(block)

    await uploads.pump(source, consume)
    if running.hexdigest() != sha256:
        raise InvalidInputError(
            "digest_mismatch", f"The bytes received have the SHA-256 {running.hexdigest()}, not the one announced."
        )
    return Blob(sha256, size)
