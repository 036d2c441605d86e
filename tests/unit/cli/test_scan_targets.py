"""`assay scan` of folders and of Hub references, here and on a server; `assay hub-token`."""

import io
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from api.commands.unpack import unpack_repository
from core.domain import ArtifactRole, Verdict
from core.errors import AssayError
from core.manifest import Manifest, ManifestFile
from core.report.schema import ArtifactInfo
from tests.support.children import fake_children
from tests.support.cli import Cli
from tests.support.http import LiveServer, live_server, make_report, sha256
from tests.support.hub import Fault, LocalHub, settings_for
from tests.unit.cli.test_scan_command import act_as_worker

CONFIG, WEIGHTS = b'{"name": "config"}', os.urandom(2_000_000)
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": b"read", "x.py": b"import os"}
CANARY = "hf_canarytoken0123456789"
KEY = "a secret key of the tests, 32 characters"
MANIFEST = Manifest.of(
    ManifestFile(path, sha256(FILES[path]), len(FILES[path])) for path in ("config.json", "model.safetensors")
)


@pytest.fixture(scope="module")
def server(running_hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("live") / "data"
    with live_server(folder, secret_key=KEY, **settings_for(running_hub)) as made:
        yield made


@pytest.fixture
def remote(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, server: LiveServer) -> Cli:
    return Cli(capsys, monkeypatch, server=server.address, api_key=server.harness.key)


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, hub: LocalHub, tmp_path: Path) -> Cli:
    """Local scans with stand-in children."""
    monkeypatch.setattr("worker.local.real_children", fake_children)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return Cli(capsys, monkeypatch, data_dir=tmp_path / "data", secret_key=KEY, **settings_for(hub))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "vit-tiny", FILES)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def test_a_folder_here(here: Cli, folder: Path) -> None:
    write(folder, {"sub/model.safetensors": b"x", ".hidden": b"x"})
    ran = here("scan", folder, "--json")
    assert ran.code == 1, ran
    model = json.loads(ran.out)["model"]
    assert (model["sha256"], model["filename"]) == (MANIFEST.sha256, "vit-tiny")
    assert "not part of the model: README.md, x.py, sub/" in ran.err


def test_a_folder_on_a_server(remote: Cli, server: LiveServer, folder: Path) -> None:
    act_as_worker(server.harness, MANIFEST.to_bytes(), lambda scan: server.harness.finish(scan, Verdict.CLEAN))
    ran = remote("scan", folder, "--json")
    assert ran.code == 0, ran
    assert json.loads(ran.out)["model"]["sha256"] == MANIFEST.sha256
    assert not server.harness.services.store.exists(sha256(FILES["x.py"]))
    again = remote("scan", folder, "--json")
    assert (again.code, "scanned before: scan_" in again.err) == (0, True)


def test_a_folder_without_a_model(here: Cli, tmp_path: Path) -> None:
    ran = here("scan", write(tmp_path / "empty", {"README.md": b""}))
    assert (ran.code, "hub_no_model" in ran.err) == (3, True)


def test_a_reference_here(here: Cli, hub: LocalHub) -> None:
    commit = hub.publish("org/name", FILES, "v1")
    hub.fail("model.safetensors", Fault(cut_after=2**20))
    ran = here("scan", "hf-hub:org/name@v1", "--json")
    assert ran.code == 1, ran
    model = json.loads(ran.out)["model"]
    assert (model["sha256"], model["filename"]) == (MANIFEST.sha256, "name")
    assert f"org/name at {commit}" in ran.err
    assert "README.md" in ran.err


def test_a_private_reference_here(here: Cli, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.publish("org/name", FILES)
    hub.repos["org/name"].token = CANARY
    ran = here("scan", "hf-hub:org/name")
    assert (ran.code, "hub_repository_not_found" in ran.err) == (3, True)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    ran = here("scan", "hf-hub:org/name")
    assert (ran.code, CANARY in ran.out + ran.err) == (1, False)


def test_a_reference_on_a_server(remote: Cli, server: LiveServer, hub: LocalHub) -> None:
    files = {**FILES, "config.json": b'{"name": "on a server"}'}
    commit = hub.publish("org/name", files)
    manifest = Manifest.of(
        ManifestFile(path, sha256(files[path]), len(files[path])) for path in ("config.json", "model.safetensors")
    )
    act_as_worker(server.harness, manifest.to_bytes(), lambda scan: server.harness.finish(scan, Verdict.CLEAN))
    ran = remote("scan", "hf-hub:org/name", "--json")
    assert ran.code == 0, ran
    assert f"org/name at {commit}" in ran.err
    assert "not part of the model: README.md, x.py" in ran.err


@pytest.mark.parametrize("target", ["hf-hub:name", "hf-hub:a/b@", "org/name", "hf-hub:a/../b"])
def test_what_is_no_target(here: Cli, target: str) -> None:
    assert here("scan", target).code == 64


def test_wrong_bytes_are_not_scanned(here: Cli, hub: LocalHub) -> None:
    hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(wrong=True))
    ran = here("scan", "hf-hub:org/name")
    assert (ran.code, "hub_digest_mismatch" in ran.err) == (3, True)


def test_a_mirror_here(here: Cli, hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "mirror" / "org" / "name", FILES)
    monkeypatch.setenv("ASSAY_HUB_MIRROR", str(tmp_path / "mirror"))
    ran = here("scan", "hf-hub:org/name", "--json")
    assert json.loads(ran.out)["model"]["sha256"] == MANIFEST.sha256
    assert hub.asked == []


def test_tokens_are_set_listed_and_removed(here: Cli, hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{CANARY}\n"))
    shown = [here("hub-token", "set", "--org", "org_default")]
    assert shown[0].code == 0
    listed = here("hub-token", "list", "--json")
    assert [item["endpoint"] for item in json.loads(listed.out)] == [hub.address]
    shown += [listed, here("hub-token", "list"), here("hub-token", "remove")]
    assert not any(CANARY in ran.out + ran.err for ran in shown)
    assert json.loads(here("hub-token", "list", "--json").out) == []
    assert here("hub-token", "remove").code == 3


@pytest.mark.parametrize(
    ("text", "environment", "arguments", "code"),
    [
        ("short", {}, (), "invalid_hub_token"),
        (CANARY, {"ASSAY_SECRET_KEY": ""}, (), "secret_key_missing"),
        (CANARY, {"ASSAY_SECRET_KEY": "short"}, (), "secret_key_weak"),
        (CANARY, {"ASSAY_SECRET_KEY": "", "ASSAY_SECRET_KEY_FILE": "/absent"}, (), "secret_key_missing"),
        (CANARY, {}, ("--org", "org_nobody"), "org_not_found"),
    ],
)
def test_tokens_that_cannot_be_set(
    here: Cli,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    environment: dict[str, str],
    arguments: tuple[str, ...],
    code: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ran = here("hub-token", "set", *arguments)
    assert (ran.code, code in ran.err, CANARY in ran.out + ran.err) == (3, True, False)


def archive(path: Path, members: dict[str, bytes], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return path


def test_a_repository_is_unpacked_to_a_new_folder(tmp_path: Path) -> None:
    packed = archive(tmp_path / "a.zip", {"config.json": CONFIG, "sub/x.json": b"x"})
    unpack_repository(packed, tmp_path / "new")
    assert (tmp_path / "new" / "config.json").read_bytes() == CONFIG
    assert (tmp_path / "new" / "sub" / "x.json").read_bytes() == b"x"
    with pytest.raises(AssayError, match="folder_not_empty"):
        unpack_repository(packed, tmp_path / "new")


@pytest.mark.parametrize(
    ("members", "options"),
    [
        ({"../x": b"x"}, {}),
        ({"/x": b"x"}, {}),
        ({"a\\..\\x": b"x"}, {}),
        ({".ssh/x": b"x"}, {}),
        ({"x": b"x" * 1000}, {"compression": zipfile.ZIP_DEFLATED}),
    ],
)
def test_nothing_is_unpacked_elsewhere(tmp_path: Path, members: dict[str, bytes], options: dict[str, Any]) -> None:
    packed = archive(tmp_path / "a.zip", members, **options)
    with pytest.raises(AssayError):
        unpack_repository(packed, tmp_path / "deep" / "new")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path != packed]


def test_a_purified_repository_becomes_a_folder(remote: Cli, server: LiveServer, tmp_path: Path, folder: Path) -> None:
    write(folder, {"config.json": b'{"name": "to be purified"}'})
    packed = archive(tmp_path / "a.zip", {"config.json": CONFIG, "model.safetensors": b"pure"}).read_bytes()
    manifest = Manifest.of(
        ManifestFile(path, sha256(data), len(data))
        for path, data in {**FILES, "config.json": b'{"name": "to be purified"}'}.items()
        if path in ("config.json", "model.safetensors")
    )

    def finish(scan_id: str) -> None:
        services, claim = server.harness.services, server.harness.claim(scan_id)
        with services.store.writer() as writer:
            writer.write(packed)
            blob = writer.commit()
        item = ArtifactInfo(
            role=ArtifactRole.PURIFIED_REPOSITORY,
            sha256=blob.sha256,
            size_bytes=blob.size_bytes,
            filename="purified-repository.zip",
            media_type="application/zip",
        )
        assert services.jobs.succeed(claim, make_report(claim, Verdict.BACKDOORED, [item]), [item])

    act_as_worker(server.harness, manifest.to_bytes(), finish)
    ran = remote("scan", folder, "--out", tmp_path / "purified")
    assert ran.code == 1, ran
    assert (tmp_path / "purified" / "model.safetensors").read_bytes() == b"pure"
    again = remote("scan", folder, "--out", tmp_path / "purified.zip")
    assert again.code == 1
    assert (tmp_path / "purified.zip").read_bytes() == packed
    full = remote("scan", folder, "--out", tmp_path / "purified")
    assert (full.code, "folder_not_empty" in full.err) == (3, True)
