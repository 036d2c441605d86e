"""RFC 9457 problem documents: the one shape of every error the API answers with."""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from core.errors import AssayError
from core.hub.errors import HubError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
_MAX_ERRORS = 20
_RETRY_AFTER_S = "5"

_CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid_request",
}
_OWN_TITLES = {460: "Checksum Mismatch"}  # of tus, unknown to HTTP
_DETAILS = {
    404: "There is nothing at this address.",
    405: "This address does not answer to that method.",
}


class FieldError(BaseModel):
    """One thing wrong with one field of a request."""

    field: str = Field(description="Where: dotted path, starting with body, query, path or header.")
    message: str


class Problem(BaseModel):
    """RFC 9457 problem document; `code` is stable, `detail` and `hint` are for people."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:assay:problem:blob_not_found",
                    "title": "Not Found",
                    "status": 404,
                    "code": "blob_not_found",
                    "detail": "There is no such blob.",
                    "hint": "Upload it with PUT /v1/blobs/{sha256}.",
                    "request_id": "0b6f5c0e7d1c4a58",
                }
            ]
        }
    )

    type: str
    title: str
    status: int
    code: str
    detail: str
    hint: str | None = None
    request_id: str
    errors: list[FieldError] | None = None


class ProblemError(AssayError):
    """An error of HTTP itself, which the domain has no name for.

    Args:
        status: HTTP status.
        headers: further response headers.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        hint: str = "",
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code, detail, hint)
        self.status = status
        self.headers = dict(headers or {})


def problem_body(
    status: int,
    code: str,
    detail: str,
    request_id: str,
    hint: str = "",
    errors: list[FieldError] | None = None,
) -> dict[str, Any]:
    """The JSON form; empty members are left out."""
    document = Problem(
        type=f"urn:assay:problem:{code}",
        title=_OWN_TITLES.get(status) or HTTPStatus(status).phrase,
        status=status,
        code=code,
        detail=detail,
        hint=hint or None,
        request_id=request_id,
        errors=errors,
    )
    return document.model_dump(exclude_none=True)


def problem_response(
    request: Request,
    status: int,
    code: str,
    detail: str,
    hint: str = "",
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[FieldError] | None = None,
) -> Response:
    """A response that carries a problem document."""
    extra = dict(headers or {})
    if status == 401:
        extra.setdefault("WWW-Authenticate", 'Bearer realm="assay"')
    if status in (423, 429, 503, 507):
        extra.setdefault("Retry-After", _RETRY_AFTER_S)
    body = problem_body(status, code, detail, request_id_of(request), hint, errors)
    return JSONResponse(body, status, headers=extra, media_type=MEDIA_TYPE)


def request_id_of(request: Request) -> str:
    """The id that the response, the problem document and the log have in common."""
    return str(request.scope.get("state", {}).get("request_id", ""))


def field_errors(errors: list[Any]) -> list[FieldError]:
    """Pydantic's errors without the offending input, which may be huge or secret."""
    found = []
    for error in errors[:_MAX_ERRORS]:
        where = ".".join(str(part)[:80] for part in error["loc"])
        found.append(FieldError(field=where, message=str(error["msg"])[:300]))
    return found


def describe(errors: list[FieldError]) -> str:
    """One sentence that names the first thing wrong."""
    if not errors:
        return "The request is not valid."
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return f"{errors[0].field}: {errors[0].message}{more}"


def from_assay_error(request: Request, error: AssayError) -> Response:
    """Deliberate errors carry their own status."""
    if isinstance(error, ProblemError):
        status, headers = error.status, error.headers
    else:
        status, headers = error.http_status, {}
    if isinstance(error, HubError) and error.retry_after_s > 0:
        headers = {"Retry-After": f"{error.retry_after_s:.0f}"}
    if status >= 500:
        log.error("request %s failed: %s", request_id_of(request), error)
    return problem_response(request, status, error.code, error.detail, error.hint, headers=headers)


def install(app: FastAPI) -> None:
    """Make every error of `app` a problem document."""

    @app.exception_handler(AssayError)
    async def _assay(request: Request, error: AssayError) -> Response:
        return from_assay_error(request, error)

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> Response:
        errors = field_errors(list(error.errors()))
        return problem_response(request, 422, "invalid_request", describe(errors), errors=errors)

    @app.exception_handler(ValidationError)
    async def _invalid_model(request: Request, error: ValidationError) -> Response:
        # Only response models are validated outside FastAPI's own handling: that is our fault, not the caller's.
        log.error("a response did not fit its schema: %s", describe(field_errors(list(error.errors()))))
        return internal_error(request)

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        code = _CODES.get(error.status_code, "http_error")
        detail = _DETAILS.get(error.status_code, str(error.detail)[:300])
        return problem_response(request, error.status_code, code, detail, headers=error.headers)


def internal_error(request: Request) -> Response:
    """What a caller is told about an exception nobody expected: nothing but the id to look for."""
    return problem_response(
        request,
        500,
        "internal_error",
        "Something went wrong on our side.",
        "Try again; if it stays, look for the request id in the server's log.",
    )
