"""From a commit to the digest of its model, with as little asking as possible."""

import pytest

from core.errors import InvalidInputError
from core.hub.client import NetworkHub
from core.hub.errors import HubBrokenError, HubContentError, HubTooLargeError
from core.hub.snapshot import Limits, Snapshot, take_snapshot
from core.manifest import Manifest, ManifestFile
from tests.support.http import sha256
from tests.support.hub import Fault, LocalHub, git_oid

CONFIG, WEIGHTS = b'{"model_type": "vit"}', b"w" * 100_000
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "README.md": b"read", "x.py": b"evil"}
ROOMY = Limits(10**9, 10**9)


def snapshot(
    client: NetworkHub, commit: str, limits: Limits = ROOMY, known: dict[str, tuple[str, int]] | None = None
) -> Snapshot:
    return take_snapshot(client, "org/name", commit, None, limits, lambda oids: known or {})


def test_the_manifest_is_known_before_any_weights_are_fetched(hub: LocalHub, client: NetworkHub) -> None:
    shot = snapshot(client, hub.publish("org/name", FILES))
    assert shot.manifest == Manifest.of(
        ManifestFile(path, sha256(FILES[path]), len(FILES[path])) for path in ("config.json", "model.safetensors")
    )
    assert shot.small == {"config.json": CONFIG}
    assert shot.git_oids == {"config.json": git_oid(CONFIG)}
    assert shot.ignored == ("README.md", "x.py")
    assert hub.gets("model.safetensors") == []
    assert len(hub.gets("config.json")) == 1


def test_small_files_outside_of_large_file_storage(hub: LocalHub, client: NetworkHub) -> None:
    hub.large_files = False
    commit = hub.publish("org/name", FILES)
    shot = snapshot(client, commit)
    assert set(shot.small) == {"config.json", "model.safetensors"}
    hub.asked.clear()
    known = {oid: (sha256(FILES[path]), len(FILES[path])) for path, oid in shot.git_oids.items()}
    again = snapshot(client, commit, known=known)
    assert (again.manifest, again.git_oids) == (shot.manifest, shot.git_oids)
    assert hub.gets("model.safetensors") == []


def test_gits_name_is_believed_only_where_it_is_right(
    hub: LocalHub, client: NetworkHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.support.hub.git_oid", lambda data: "0" * 40)
    assert snapshot(client, hub.publish("org/name", FILES)).git_oids == {}


def test_large_files_without_a_digest_are_read_for_it_within_reason(
    hub: LocalHub, client: NetworkHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.hub.snapshot.SMALL_BYTES", 1000)
    hub.large_files = False
    commit = hub.publish("org/name", FILES)
    shot = snapshot(client, commit)
    assert shot.manifest.files[1].sha256 == sha256(WEIGHTS)  # read, and not kept
    assert set(shot.small) == {"config.json"}
    monkeypatch.setattr("core.hub.client.MEASURED_BYTES", 1000)
    with pytest.raises(HubContentError, match="hub_digest_unknown"):
        snapshot(client, commit)


def test_sizes_are_checked_before_anything_is_fetched(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", FILES)
    whole = len(CONFIG) + len(WEIGHTS)
    for limits, code in (
        (Limits(len(WEIGHTS) - 1, whole), "hub_file_too_large"),
        (Limits(len(WEIGHTS), whole - 1), "hub_model_too_large"),
    ):
        with pytest.raises(HubTooLargeError, match=code):
            snapshot(client, commit, limits)
    assert hub.gets("model.safetensors") == []
    assert snapshot(client, commit, Limits(len(WEIGHTS), whole)).manifest.size_bytes == whole


def test_small_files_in_large_file_storage_are_compared(hub: LocalHub, client: NetworkHub) -> None:
    index, shard = "model.safetensors.index.json", "model-00001-of-00001.safetensors"
    files = {"config.json": CONFIG, index: b'{"weight_map": {"w": "%b"}}' % shard.encode(), shard: WEIGHTS}
    commit = hub.publish("org/name", files)
    hub.fail(index, Fault(wrong=True))
    with pytest.raises((HubBrokenError, HubContentError)):
        snapshot(client, commit)
    assert [file.path for file in snapshot(client, commit).manifest.files] == ["config.json", shard, index]


def test_odd_names_are_no_part_of_a_model(hub: LocalHub, client: NetworkHub) -> None:
    with pytest.raises(InvalidInputError, match="invalid_manifest"):
        snapshot(client, hub.publish("org/name", {"mödel.safetensors": WEIGHTS}))
