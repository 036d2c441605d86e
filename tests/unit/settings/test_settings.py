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
