"""The OpenAPI document, and its committed snapshot.

`python -m api.openapi` writes openapi.json; `--check` fails if it would change.
"""

import json
import sys
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api.problems import MEDIA_TYPE, Problem
from api.routes.hub_token import HubTokenRequest
from api.schemas import InspectRequest, ReferenceSetRequest, SubmitRequest
from api.views import GateOut, ScanOut, SubmittedOut

SNAPSHOT = Path(__file__).parent.parent / "openapi.json"

_REF = "#/components/schemas/{model}"
_FASTAPI_ERRORS = ("HTTPValidationError", "ValidationError")


def install(app: FastAPI) -> None:
    """Replace FastAPI's document by one that tells the truth about errors and keys."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]  # FastAPI documents this as the way to do it


def _document(app: FastAPI) -> dict[str, Any]:
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for model in (Problem, InspectRequest, SubmitRequest, ReferenceSetRequest, HubTokenRequest):
        schema = model.model_json_schema(ref_template=_REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[model.__name__] = schema
    for name in _FASTAPI_ERRORS:
        schemas.pop(name, None)
    for shown in (ScanOut, SubmittedOut, GateOut):  # FastAPI drops the nulls of an example
        schemas[shown.__name__]["examples"] = shown.model_json_schema()["examples"]
    document["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer", "description": "An API key; not needed on loopback by default."}
    }
    for path, operations in document["paths"].items():
        for operation in operations.values():
            operation["security"] = [] if path in ("/healthz", "/readyz") else [{"key": []}, {}]
            _use_problems(operation)
    return document


def _use_problems(operation: dict[str, Any]) -> None:
    """FastAPI adds its own 422 where a route does not describe one."""
    problem = {
        "description": "The request is not valid.",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
    for status, response in operation["responses"].items():
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        if any(schema.get("$ref", "").endswith(f"/{name}") for name in _FASTAPI_ERRORS):
            operation["responses"][status] = problem


def render() -> str:
    """The document as it is committed."""
    from api.app import create_app
    from core.settings import Settings

    return json.dumps(create_app(Settings()).openapi(), indent=1, sort_keys=True) + "\n"


def main(arguments: list[str]) -> int:
    """Write the snapshot, or with --check compare it; the exit status."""
    text = render()
    if "--check" not in arguments:
        SNAPSHOT.write_text(text)
        return 0
    if SNAPSHOT.exists() and SNAPSHOT.read_text() == text:
        return 0
    sys.stderr.write("openapi.json does not match the routes; run: python -m api.openapi\n")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
