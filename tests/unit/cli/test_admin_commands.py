"""`assay keys`, `assay db`, `assay doctor`, and wrong usage."""

import json
from pathlib import Path

import pytest

from api.commands import doctor
from api.reference_zip import zip_folder
from core.errors import InvalidInputError, UnauthorizedError
from core.registry.keys import ApiKeyService
from core.registry.session import Database
from tests.support.cli import Cli
from worker import landlock


def keys_of(folder: Path) -> ApiKeyService:
    return ApiKeyService(Database(f"sqlite:///{folder / 'assay.db'}"))


def test_keys_live_and_die(cli: Cli, tmp_path: Path) -> None:
    ran = cli("keys", "create", "ci", "--scope", "gate", "--scope", "read")
    assert ran.code == 0
    plaintext = ran.out.strip()
    assert plaintext.startswith("assay_")
    assert plaintext not in ran.err
    keys = keys_of(tmp_path / "data")
    assert keys.authenticate(plaintext).scopes == {"gate", "read"}
    listed = json.loads(cli("keys", "list", "--json").out)
    assert [(key["name"], key["scopes"], key["revoked_at"]) for key in listed] == [("ci", ["gate", "read"], "")]
    assert plaintext.rpartition("_")[2] not in cli("keys", "list").out
    assert cli("keys", "revoke", listed[0]["prefix"]).code == 0
    with pytest.raises(UnauthorizedError):
        keys.authenticate(plaintext)
    assert "revoked" in cli("keys", "list").out


def test_a_key_is_no_administrator_unless_asked(cli: Cli, tmp_path: Path) -> None:
    created = json.loads(cli("keys", "create", "all", "--json").out)
    assert set(created["scopes"]) == {"upload", "scan", "read", "download", "gate"}


def test_wrong_keys(cli: Cli) -> None:
    assert cli("keys", "create", "x", "--scope", "everything").code == 64
    assert cli("keys", "create").code == 64
    assert cli("keys", "create", "x", "--expires-days", "soon").code == 64
    assert cli("keys", "revoke", "key_unknown").code == 3
    assert cli("keys", "create", "x", "--org", "org_unknown").code == 3


def test_an_expired_key(cli: Cli, tmp_path: Path) -> None:
    plaintext = cli("keys", "create", "short", "--expires-days", "0").out.strip()
    with pytest.raises(UnauthorizedError):
        keys_of(tmp_path / "data").authenticate(plaintext)
    assert "expired" in cli("keys", "list").out


def test_db(cli: Cli) -> None:
    ran = cli("db", "current")
    assert (ran.code, "empty" in ran.out) == (3, True)
    assert cli("db", "upgrade").code == 0
    ran = cli("db", "current")
    assert (ran.code, "newest" in ran.out) == (0, True)
    assert cli("db", "check").code == 0


def test_db_check_sees_drift(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy import Column, Integer, Table

    from core.registry.orm import Base

    table = Table("forgotten", Base.metadata, Column("id", Integer, primary_key=True))
    try:
        ran = cli("db", "check")
    finally:
        Base.metadata.remove(table)
    assert (ran.code, "forgotten" in ran.err) == (3, True)


def test_doctor(cli: Cli) -> None:
    ran = cli("doctor", "--json")
    findings = {finding["name"]: finding for finding in json.loads(ran.out)}
    assert {"python", "core", "torch", "threads", "storage", "database", "queue"} <= set(findings)
    assert findings["core"]["level"] == "ok"
    assert ran.code == 0
    assert "queue" in cli("doctor").out


def test_doctor_sees_what_is_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_BROKER_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("ASSAY_FREE_SPACE_RESERVE_BYTES", str(1 << 60))
    monkeypatch.setattr(doctor.core, "__file__", "/elsewhere/core/__init__.py")
    ran = cli("doctor", "--json")
    wrong = {finding["name"] for finding in json.loads(ran.out) if finding["level"] == "error"}
    assert (ran.code, wrong) == (3, {"core", "storage", "queue"})


def test_doctor_lists_the_layers_of_the_sandbox(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def layers() -> dict[str, tuple[str, str]]:
        findings = json.loads(cli("doctor", "--json").out)
        return {item["name"]: (item["level"], item["detail"][:3]) for item in findings if "sandbox" in item["name"]}

    monkeypatch.setattr(landlock, "version", lambda: 0)
    assert layers()["sandbox: files"] == ("warning", "no:")
    assert layers()["sandbox: process"] == ("ok", "yes")
    monkeypatch.setenv("ASSAY_SANDBOX", "required")
    assert layers()["sandbox: files"] == ("error", "no:")
    assert cli("doctor").code == 3
    monkeypatch.setenv("ASSAY_SANDBOX", "perhaps")
    assert cli("doctor").code == 64


def test_doctor_hides_the_password_of_the_database(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATABASE_URL", "postgresql://assay:hunter2@127.0.0.1:1/assay")
    ran = cli("doctor")
    assert (ran.code, "hunter2" in ran.out + ran.err) == (3, False)


@pytest.mark.parametrize(
    "arguments", [["nope"], ["serve", "--port", "x"], ["serve", "--port", "99999"], ["--nope"], []]
)
def test_wrong_usage(cli: Cli, arguments: list[str]) -> None:
    assert cli(*arguments).code == 64


def test_wrong_settings_are_wrong_usage(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_LEASE_S", "soon")
    ran = cli("doctor")
    assert (ran.code, "ASSAY_LEASE_S" in ran.err) == (64, True)


@pytest.mark.parametrize("command", [[], ["scan"], ["serve"], ["gate"], ["keys"], ["db"]])
def test_help(cli: Cli, command: list[str]) -> None:
    ran = cli(*command, "--help")
    assert (ran.code, "Usage" in ran.out) == (0, True)


def test_workers_need_a_broker(cli: Cli) -> None:
    ran = cli("serve", "--workers", "2")
    assert (ran.code, "ASSAY_BROKER_URL" in ran.err) == (64, True)
    for command in ("worker", "sweep"):
        ran = cli(command)
        assert (ran.code, "broker_required" in ran.err) == (3, True)


def test_the_same_folder_gives_the_same_zip(tmp_path: Path) -> None:
    import os

    def make(name: str, order: list[str]) -> bytes:
        folder = tmp_path / name
        for file in order:
            path = folder / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(file.encode())
        (folder / ".hidden").write_bytes(b"x")
        (folder / "link").symlink_to("/etc/passwd")
        os.utime(folder / order[0], (1, 1))
        zip_folder(folder, tmp_path / f"{name}.zip")
        return (tmp_path / f"{name}.zip").read_bytes()

    first, second = make("a", ["1/x.png", "0/y.png"]), make("b", ["0/y.png", "1/x.png"])
    assert first == second
    assert b"passwd" not in first
    assert b"hidden" not in first
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="reference_empty"):
        zip_folder(tmp_path / "empty", tmp_path / "empty.zip")
