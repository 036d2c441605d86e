"""The container files run commands that exist and pass environment that is read."""

import re
from pathlib import Path

import pytest
import yaml

from core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def commands() -> list[list[str]]:
    out = [s["command"] for s in COMPOSE["services"].values() if s.get("command", [""])[0] == "assay"]
    out += [re.findall(r'"([^"]+)"', line) for line in re.findall(r'^CMD (\["assay".*\])$', DOCKERFILE, re.MULTILINE)]
    return out


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_assay_commands_exist(command: list[str]) -> None:
    from typer.main import get_command

    from api.cli import app

    group = get_command(app)
    for word in command[1:]:
        if word.startswith("-"):
            break
        assert word in group.commands, f"`assay {word}` does not exist"  # type: ignore[attr-defined]
        group = group.commands[word]  # type: ignore[attr-defined]
        if not hasattr(group, "commands"):
            break
    options = {o for p in group.params for o in p.opts}
    assert {w for w in command if w.startswith("--")} <= options


def test_environment_is_read_by_the_settings() -> None:
    known = {f"ASSAY_{name.upper()}" for name in Settings.model_fields}
    for name, service in COMPOSE["services"].items():
        given = {k for k in service.get("environment", {}) if k.startswith("ASSAY_")}
        assert given <= known, name


def test_services_wait_for_the_migration_and_carry_no_secret() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"postgres", "redis", "migrate", "api", "worker", "sweeper"}
    for name in ("api", "worker", "sweeper"):
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    passwords = re.findall(r"(?:assay:|redis://:)([^@]+)@", (ROOT / "docker-compose.yml").read_text())
    assert passwords
    assert all(p.startswith("${") for p in passwords)


def test_images_run_as_non_root_and_hold_every_top_level_package() -> None:
    stages = re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[2:]
    assert all("USER 10001:10001" in stage for stage in stages)
    for package in ("api", "core", "worker", "migrations"):
        assert f"COPY {package} ./{package}" in DOCKERFILE
