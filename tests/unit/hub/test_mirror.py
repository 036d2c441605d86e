"""Models from a folder, without network: the cache of the Hub's client, as it writes it itself, and plain folders."""

import shutil
import socket
from pathlib import Path
from typing import Any, NoReturn

import pytest
from huggingface_hub import snapshot_download

from core.hub.client import NetworkHub
from core.hub.errors import HubMissingError, HubStoppedError, HubTruncatedError
from core.hub.mirror import MirrorHub
from core.hub.reference import HubRef
from core.hub.snapshot import Limits, Snapshot, take_snapshot
from core.hub.source import FileAt, HubFile, HubSource
from tests.support.http import sha256
from tests.support.hub import LocalHub
from tests.unit.hub.conftest import MemorySink, where

CONFIG, WEIGHTS = b'{"model_type": "vit"}', b"w" * 3_000_000
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": b"read"}
REF = HubRef("org/name")


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def snapshot(source: HubSource, commit: str) -> Snapshot:
    return take_snapshot(source, "org/name", commit, None, Limits(10**9, 10**9), lambda oids: {})


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> NoReturn:
        raise AssertionError("the network was used")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def go_on() -> bool:
    return False


def test_the_cache_of_the_hubs_client(hub: LocalHub, client: NetworkHub, tmp_path: Path) -> None:
    first = hub.publish("org/name", FILES)
    for revision in ("main", hub.publish("org/name", {**FILES, "config.json": b"{}"}, "v2")):
        snapshot_download("org/name", revision=revision, cache_dir=tmp_path, endpoint=hub.address, token=False)
    mirror = MirrorHub(tmp_path)
    assert mirror.commit(REF, None) == first
    assert mirror.commit(HubRef("org/name", first), None) == first
    assert snapshot(mirror, first).manifest == snapshot(client, first).manifest
    listed = {file.path: file.sha256 for file in mirror.files("org/name", first, None)}
    assert listed["model.safetensors"] == sha256(WEIGHTS)  # by the blob's name: nothing was hashed
    sink = MemorySink(WEIGHTS[:1000])
    mirror.fetch(where(first, "model.safetensors", WEIGHTS), None, sink, go_on)
    assert bytes(sink.data) == WEIGHTS
    with pytest.raises(HubMissingError, match="hub_offline_missing"):
        mirror.commit(HubRef("org/name", "v3"), None)


def test_a_folder_that_was_downloaded_knows_its_commit(hub: LocalHub, tmp_path: Path) -> None:
    commit = hub.publish("org/name", FILES)
    folder = tmp_path / "org" / "name"
    snapshot_download("org/name", local_dir=folder, endpoint=hub.address, token=False)
    mirror = MirrorHub(tmp_path)
    assert mirror.commit(REF, None) == mirror.commit(HubRef("org/name", commit), None) == commit
    assert [file.path for file in snapshot(mirror, commit).manifest.files] == ["config.json", "model.safetensors"]


def test_a_plain_folder(tmp_path: Path, no_network: None) -> None:
    folder = write(tmp_path / "org" / "name", {**FILES, ".git/config": b"x", "sub/a.txt": b"a"})
    mirror = MirrorHub(tmp_path)
    commit = mirror.commit(REF, None)
    shot = snapshot(mirror, commit)
    assert {file.path: file.sha256 for file in shot.manifest.files} == {
        path: sha256(FILES[path]) for path in ("config.json", "model.safetensors")
    }
    assert shot.ignored == ("README.md", "sub/a.txt")
    assert mirror.commit(HubRef("org/name", commit), None) == commit
    write(folder, {"config.json": b'{"model_type": "swin"}'})
    assert mirror.commit(REF, None) != commit
    with pytest.raises(HubMissingError, match="hub_offline_missing"):
        mirror.read(where(commit, "config.json", CONFIG), None)


def test_large_files_of_a_plain_folder_are_hashed_once(
    tmp_path: Path, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.hub.snapshot.SMALL_BYTES", 1000)
    write(tmp_path / "org" / "name", FILES)
    mirror = MirrorHub(tmp_path)
    shot = snapshot(mirror, mirror.commit(REF, None))
    assert shot.manifest.files[1].sha256 == sha256(WEIGHTS)
    assert set(shot.small) == {"config.json"}


@pytest.mark.parametrize("ref", [HubRef("org/other"), HubRef("org/name", "v1"), HubRef("org/name", "0" * 40)])
def test_what_the_mirror_lacks(tmp_path: Path, no_network: None, ref: HubRef) -> None:
    write(tmp_path / "org" / "name", FILES)
    with pytest.raises(HubMissingError) as caught:
        MirrorHub(tmp_path).commit(ref, None)
    assert caught.value.code == "hub_offline_missing"
    assert ref.repo in caught.value.detail


def test_links_out_of_the_repository_lead_nowhere(tmp_path: Path, no_network: None) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"canary")
    folder = write(tmp_path / "mirror" / "org" / "name", FILES)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(secret)
    (folder / "sub").symlink_to(tmp_path)
    mirror = MirrorHub(tmp_path / "mirror")
    commit = mirror.commit(REF, None)
    assert sorted(file.path for file in mirror.files("org/name", commit, None)) == ["README.md", "config.json"]
    with pytest.raises(HubMissingError):
        mirror.read(where(commit, "model.safetensors", b"canary"), None)
    with pytest.raises(HubMissingError):
        mirror.read(where(commit, "../../../secret", b"canary"), None)


def test_a_file_that_changes_meanwhile(tmp_path: Path, no_network: None) -> None:
    write(tmp_path / "org" / "name", FILES)
    mirror = MirrorHub(tmp_path)
    commit = mirror.commit(REF, None)
    for announced in (len(WEIGHTS) - 1, len(WEIGHTS) + 1):
        asked = FileAt("org/name", commit, HubFile("model.safetensors", announced, None, None))
        with pytest.raises(HubTruncatedError):
            mirror.fetch(asked, None, MemorySink(), go_on)
    with pytest.raises(HubTruncatedError):
        mirror.read(FileAt("org/name", commit, HubFile("config.json", 1, None, None)), None)


def test_copying_stops_when_told(tmp_path: Path, no_network: None) -> None:
    write(tmp_path / "org" / "name", FILES)
    mirror = MirrorHub(tmp_path)
    with pytest.raises(HubStoppedError):
        mirror.fetch(where(mirror.commit(REF, None), "model.safetensors", WEIGHTS), None, MemorySink(), lambda: True)


def test_a_mirror_that_is_gone(tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)
    with pytest.raises(HubMissingError):
        MirrorHub(tmp_path).commit(REF, None)
