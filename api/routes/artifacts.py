"""Downloads: GET and HEAD /v1/artifacts/{sha256}."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from starlette.responses import StreamingResponse

from api.auth import MayDownload
from api.deps import Has
from api.downloads import parse_range, send_file
from api.filenames import content_disposition
from api.routes import problems_for
from api.routes.blobs import repr_digest
from core.domain import PURIFIED_ROLES, ArtifactRole, Verdict
from core.jobs.views import ArtifactRecord

router = APIRouter(prefix="/v1/artifacts", tags=["artifacts"])

Digest = Annotated[
    str, Path(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the bytes, 64 lower-case hexadecimal digits.")
]

_BYTES = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes.",
        "content": _BYTES,
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "The digest."},
            "Repr-Digest": {"schema": {"type": "string"}, "description": "RFC 9530."},
            "Assay-Verdict": {
                "schema": {"type": "string", "enum": [verdict.value for verdict in Verdict]},
                "description": "The worst verdict on the model this file belongs to, if there is one.",
            },
            "Assay-Warning": {"schema": {"type": "string"}, "description": "Present when that is backdoored."},
        },
    },
    206: {"description": "One range of the bytes.", "content": _BYTES},
    304: {"description": "The caller has it already."},
    **problems_for(401, 403, 404, 416, 500),
}


@router.get(
    "/{sha256}", operation_id="get_artifact", summary="Download a file", responses=_RESPONSES, response_class=Response
)
@router.head(
    "/{sha256}", operation_id="head_artifact", summary="Ask about a file", responses=_RESPONSES, response_class=Response
)
def get_artifact(request: Request, sha256: Digest, who: MayDownload, services: Has) -> Response:
    """Uploads and what scans produced. The stored bytes are compared with the digest before any of them is sent."""
    record = services.jobs.artifact(who.org_id, sha256)
    headers = _headers(record)
    if _matches(request.headers.get("if-none-match"), headers["ETag"]):
        return Response(status_code=304, headers=headers)
    file = services.verifier.open(sha256)
    size = record.size_bytes
    try:
        span = parse_range(_range_of(request, headers["ETag"]), size)
    except BaseException:
        file.close()
        raise
    first, last = span or (0, size - 1)
    headers["Content-Length"] = str(last - first + 1)
    if span is not None:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    status = 200 if span is None else 206
    if request.method == "HEAD":
        file.close()
        return Response(status_code=status, headers=headers, media_type=record.media_type)
    whole = sha256 if last - first + 1 == size else None
    body = send_file(file, first, last, whole_sha256=whole)
    return StreamingResponse(body, status, headers, media_type=record.media_type)


def _headers(record: ArtifactRecord) -> dict[str, str]:
    headers = {
        "ETag": f'"{record.sha256}"',
        "Repr-Digest": repr_digest(record.sha256),
        "Accept-Ranges": "bytes",
        "Content-Disposition": content_disposition(record.filename),
        "Cache-Control": "private, no-cache",
    }
    if record.model_verdict is not None:
        headers["Assay-Verdict"] = record.model_verdict.value
    if record.model_verdict is Verdict.BACKDOORED:
        headers["Assay-Warning"] = _warning(record)
    return headers


def _warning(record: ArtifactRecord) -> str:
    if record.role in PURIFIED_ROLES:
        return "purified from a model that was called backdoored; ask the gate before use"
    if record.role is ArtifactRole.TRIGGER_IMAGE:
        return "shows a trigger found in a model that was called backdoored"
    return "this model was called backdoored; do not use it"


def _matches(header: str | None, etag: str) -> bool:
    """If-None-Match, weakly compared."""
    if header is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in header.split(",")]
    return "*" in tags or etag in tags


def _range_of(request: Request, etag: str) -> str | None:
    """The Range header, unless an If-Range says that it was meant for other bytes."""
    condition = request.headers.get("if-range")
    return request.headers.get("range") if condition is None or condition.strip() == etag else None
