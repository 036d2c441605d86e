"""JSON bodies, read strictly and no longer than they need to be."""

import json
from typing import Any, TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from api import uploads
from api.problems import ProblemError

MAX_JSON_BYTES = 256 * 1024

Body = TypeVar("Body", bound=BaseModel)


async def read_json(request: Request, kind: type[Body]) -> Body:
    """The body as a `kind`.

    Raises:
        ProblemError: 400 `invalid_json`.
        TooLargeError: over MAX_JSON_BYTES.
        RequestValidationError: a field is wrong.
    """
    body = await uploads.read_small(request, MAX_JSON_BYTES)
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise ProblemError(400, "invalid_json", "The body is not valid JSON.") from None
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise invalid_body(error) from None


def json_body(kind: type[BaseModel]) -> dict[str, Any]:
    """For `openapi_extra`: what `read_json` reads, which FastAPI cannot see."""
    schema = {"$ref": f"#/components/schemas/{kind.__name__}"}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def invalid_body(error: ValidationError) -> RequestValidationError:
    """The error of a body, with every location inside of `body`."""
    return RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()])


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
