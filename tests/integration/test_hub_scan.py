"""Scans by reference, from end to end: a local Hub, its real client, the real server, the real children."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from timm.models import save_for_hf

from tests.support.hub import Fault, LocalHub, settings_for
from tests.support.repositories import timm_network, transformers_network
from tests.support.serving import serving

PATIENCE_S = 540.0


@pytest.fixture(scope="module")
def http(hub: LocalHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A server with its embedded worker, for all tests of this module."""
    with serving(tmp_path_factory.mktemp("serve") / "data", **settings_for(hub)) as (client, _):
        yield client


def saved(network: Any, folder: Path, **options: Any) -> dict[str, bytes]:
    """The files that a library's own save_pretrained writes, with what a repository has besides."""
    network.save_pretrained(folder, **options)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return {**files, "README.md": b"# A model", "modeling.py": b"raise SystemExit('canary')"}


def scan(http: httpx2.Client, **model: str) -> dict[str, Any]:
    body = {"model": model, "preset": "fast", "purify": "never"}
    answer = http.post("/v1/scans", json=body)
    assert answer.status_code == 202, answer.text
    made: dict[str, Any] = answer.json()
    end = time.monotonic() + PATIENCE_S
    while made["state"] not in ("succeeded", "failed", "canceled"):
        assert time.monotonic() < end, made
        made = {**made, **http.get(f"/v1/scans/{made['id']}", params={"wait": 25}).json()}
    return made


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_vision_transformer_in_shards(http: httpx2.Client, hub: LocalHub, tmp_path: Path) -> None:
    network = transformers_network("vit", 10)
    files = saved(network, tmp_path / "vit", max_shard_size="40kB")
    assert "model.safetensors.index.json" in files
    commit = hub.publish("org/vit-tiny", files)
    hub.fail("model-00001-of-00003.safetensors", Fault(cut_after=1000))
    done = scan(http, hub="org/vit-tiny")
    assert done["state"] == "succeeded", done["error"]
    assert done["model"]["hub"]["commit"] == commit
    assert done["model"]["hub"]["ignored"] == ["README.md", "modeling.py"]
    report = http.get(f"/v1/scans/{done['id']}/report").json()
    assert report["model"]["sha256"] == done["model"]["sha256"]
    assert report["model"]["num_classes"] == 10
    assert not [item for item in hub.asked if item.path.endswith(("README.md", "modeling.py"))]

    hub.publish("org/vit-tiny", {**files, "README.md": b"# Another text"})
    again = scan(http, hub="org/vit-tiny")
    assert (again["id"], again["reused"]) == (done["id"], True)
    assert again["resolved"]["commit"] != commit


def test_a_hostile_repository_is_refused(http: httpx2.Client, hub: LocalHub, tmp_path: Path) -> None:
    files = saved(transformers_network("vit", 3), tmp_path / "vit")
    config = {**json.loads(files["config.json"]), "auto_map": {"AutoModel": "modeling.Evil"}}
    hub.publish("org/evil", {**files, "config.json": json.dumps(config).encode()})
    done = scan(http, hub="org/evil")
    assert (done["state"], done["verdict"]) == ("failed", None)
    assert done["error"]["code"].startswith("unsafe_")


def look(http: httpx2.Client, repo: str) -> dict[str, Any]:
    answer = http.post("/v1/models:inspect", json={"model": {"hub": repo}}, timeout=PATIENCE_S)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


def test_dry_runs_by_reference(http: httpx2.Client, hub: LocalHub, tmp_path: Path) -> None:
    hub.publish("org/convnext", saved(transformers_network("convnext", 7), tmp_path / "convnext"))
    network, options = timm_network("test_resnet", 5)
    save_for_hf(network, tmp_path / "timm", model_args=options or None)
    hub.publish("timm/test_resnet.x", {path.name: path.read_bytes() for path in (tmp_path / "timm").iterdir()})
    for repo, classes in (("org/convnext", 7), ("timm/test_resnet.x", 5)):
        report = look(http, repo)
        assert report["network"]["num_classes"] == classes, report
