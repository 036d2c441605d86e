"""Deployment settings from the environment."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in list(os.environ):
        if name.startswith("ASSAY_"):
            monkeypatch.delenv(name)


def test_defaults_are_the_embedded_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings()
    assert settings.is_embedded
    assert settings.resolved_database_url == f"sqlite:///{tmp_path}/.assay/assay.db"
    assert settings.blobs_dir == tmp_path / ".assay" / "blobs"
    assert (settings.lease_s, settings.renew_s, settings.sweep_s, settings.max_attempts) == (60, 15, 30, 3)


def test_environment_with_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATABASE_URL", "postgresql://u:p@h/db")
    monkeypatch.setenv("ASSAY_BROKER_URL", "redis://h/0")
    monkeypatch.setenv("ASSAY_LEASE_S", "2.5")
    monkeypatch.setenv("ASSAY_RENEW_S", "1")
    monkeypatch.setenv("ASSAY_DATA_DIR", "/srv/assay")
    settings = Settings()
    assert not settings.is_embedded
    assert settings.resolved_database_url == "postgresql://u:p@h/db"
    assert settings.lease_s == 2.5
    assert settings.blobs_dir == Path("/srv/assay/blobs")


def test_empty_value_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_BROKER_URL", "")
    assert Settings().is_embedded


def test_secrets_stay_out_of_repr() -> None:
    settings = Settings(
        database_url="postgresql://u:canary-1@h/db", broker_url="redis://:canary-2@h/0", api_key="canary-3"
    )
    assert "canary" not in repr(settings)
    assert "canary" not in str(settings)
    assert settings.api_key is not None
    assert settings.api_key.get_secret_value() == "canary-3"


@pytest.mark.parametrize(
    "values",
    [
        {"lease_s": 10, "renew_s": 6},
        {"lease_s": 0},
        {"max_attempts": 0},
        {"threads": -1},
        {"free_space_reserve_bytes": -1},
    ],
)
def test_contradictions_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Settings(**values)  # type: ignore[arg-type]


def test_frozen() -> None:
    with pytest.raises(ValidationError):
        Settings().lease_s = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("environment", "endpoint", "offline"),
    [
        ({}, "https://huggingface.co", False),
        ({"HF_ENDPOINT": "https://mirror.example.org", "HF_HUB_OFFLINE": "1"}, "https://mirror.example.org", True),
        ({"HF_ENDPOINT": "https://a", "ASSAY_HUB_ENDPOINT": "http://b:8080/hub"}, "http://b:8080/hub", False),
        ({"HF_ENDPOINT": "https://a", "ASSAY_HUB_ENDPOINT": ""}, "https://a", False),
    ],
)
def test_the_hub_is_ours_or_the_one_its_client_knows(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], endpoint: str, offline: bool
) -> None:
    for name in ("HF_ENDPOINT", "HF_HUB_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert (settings.hub_endpoint, settings.hub_offline) == (endpoint, offline)
    assert Settings(hub_endpoint="http://given").hub_endpoint == "http://given"


@pytest.mark.parametrize(
    "values",
    [
        {"hub_endpoint": "ftp://host"},
        {"hub_endpoint": "https://user:password@host"},
        {"hub_endpoint": "https://host/?x=1"},
        {"hub_redirect_hosts": "https://host"},
        {"hub_max_model_bytes": 0},
        {"secret_key": "x", "secret_key_file": "/x"},
    ],
)
def test_a_hub_that_cannot_be_meant(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Settings(**values)


def test_hosts_to_be_redirected_to() -> None:
    assert Settings(hub_redirect_hosts=" CDN.example.org:8443, .hf.co,").redirect_hosts == (
        "cdn.example.org:8443",
        ".hf.co",
    )


def test_the_hubs_secrets_stay_out_of_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary-4")
    settings = Settings(secret_key="canary-5")
    assert "canary" not in repr(settings) + str(settings)
    assert settings.hub_token is not None
    assert settings.hub_token.get_secret_value() == "canary-4"
