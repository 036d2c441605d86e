"""Tokens for the Hub over HTTP: nothing of them ever comes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from tests.support.http import Harness, app_client, is_problem

CANARY = "hf_canarytoken0123456789"
ADDRESS = "/v1/hub-token"


@pytest.fixture
def app(tmp_path: Path) -> Iterator[tuple[TestClient, Harness]]:
    key = "a secret key of the tests, 32 characters"
    with app_client(tmp_path / "data", secret_key=key, hub_endpoint="https://hub.example.org/") as made:
        yield made


def test_set_ask_remove(app: tuple[TestClient, Harness], caplog: pytest.LogCaptureFixture) -> None:
    client, harness = app
    is_problem(client.get(ADDRESS), 404, "hub_token_not_found")
    answers = [client.put(ADDRESS, json={"token": CANARY}), client.get(ADDRESS)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[1].json()["endpoint"] == "https://hub.example.org"
    kept = harness.services.hub_tokens.get("org_default", "https://hub.example.org")
    assert kept is not None
    assert kept.get_secret_value() == CANARY
    assert client.delete(ADDRESS).status_code == 204
    is_problem(client.delete(ADDRESS), 404, "hub_token_not_found")
    assert not any("canary" in answer.text for answer in answers)
    assert "canary" not in caplog.text


def test_each_organisation_has_its_own(app: tuple[TestClient, Harness]) -> None:
    client, harness = app
    _, stranger = harness.new_org()
    client.put(ADDRESS, json={"token": CANARY})
    is_problem(client.get(ADDRESS, headers=stranger), 404, "hub_token_not_found")
    is_problem(client.delete(ADDRESS, headers=stranger), 404, "hub_token_not_found")
    assert client.get(ADDRESS).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"token": "canary"},
        {"token": "canary with blanks"},
        {"token": "canary" * 100},
        {"token": ["canary"]},
        {"token": CANARY, "org_id": "org_other"},
        {},
        ["canary"],
    ],
)
def test_what_is_no_token_is_not_repeated(app: tuple[TestClient, Harness], body: object) -> None:
    answer = app[0].put(ADDRESS, json=body)
    is_problem(answer, 422)
    assert "canary" not in answer.text


def test_without_a_secret_key_nothing_is_kept(tmp_path: Path) -> None:
    with app_client(tmp_path / "data") as (client, _):
        answer = client.put(ADDRESS, json={"token": CANARY})
        document = is_problem(answer, 500, "secret_key_missing")
        assert "ASSAY_SECRET_KEY_FILE" in document["hint"]
        is_problem(client.get(ADDRESS), 404, "hub_token_not_found")
