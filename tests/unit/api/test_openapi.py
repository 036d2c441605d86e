"""The document tells the truth, and the committed one is it."""

import json
from pathlib import Path

import pytest

from api import openapi
from api.app import create_app
from core.settings import Settings


@pytest.fixture(scope="module")
def document() -> dict[str, object]:
    return create_app(Settings()).openapi()


def test_the_snapshot_is_up_to_date() -> None:
    assert openapi.main(["--check"]) == 0


def test_check_fails_when_it_is_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "openapi.json"
    monkeypatch.setattr(openapi, "SNAPSHOT", path)
    assert openapi.main(["--check"]) == 1
    assert openapi.main([]) == 0
    assert openapi.main(["--check"]) == 0
    path.write_text(path.read_text().replace("submit_scan", "submit"))
    assert openapi.main(["--check"]) == 1


def operations(document: dict) -> list[dict]:  # type: ignore[type-arg]
    return [operation for item in document["paths"].values() for operation in item.values()]


def test_operation_ids_are_unique_and_stable(document: dict) -> None:  # type: ignore[type-arg]
    names = sorted(operation["operationId"] for operation in operations(document))
    assert names == [
        "append_upload",
        "ask_gate",
        "cancel_scan",
        "create_reference_set",
        "create_upload",
        "delete_hub_token",
        "delete_model",
        "delete_reference_set",
        "delete_scan",
        "delete_upload",
        "get_artifact",
        "get_hub_token",
        "get_model",
        "get_reference_set",
        "get_report",
        "get_scan",
        "get_upload",
        "head_artifact",
        "head_blob",
        "head_upload",
        "healthz",
        "inspect_model",
        "list_reference_sets",
        "list_scans",
        "list_uploads",
        "put_blob",
        "readyz",
        "set_hub_token",
        "submit_scan",
        "uploads_options",
    ]


def test_every_error_is_a_problem(document: dict) -> None:  # type: ignore[type-arg]
    for operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400 and operation["operationId"] not in ("readyz",):
                assert list(response.get("content", {"application/problem+json": 0})) == ["application/problem+json"]
    assert "HTTPValidationError" not in json.dumps(document)


def test_references_resolve_and_examples_fit(document: dict) -> None:  # type: ignore[type-arg]
    from api.schemas import SubmitRequest
    from api.views import GateOut, ScanOut

    text = json.dumps(document)
    for reference in {part.split('"')[0] for part in text.split('"$ref": "#/components/schemas/')[1:]}:
        assert reference in document["components"]["schemas"], reference
    schemas = document["components"]["schemas"]
    for model in (SubmitRequest, ScanOut, GateOut):
        for example in schemas[model.__name__]["examples"]:
            model.model_validate(example)
