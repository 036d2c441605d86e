"""Backdoored repositories by reference to a Hub: scanned over HTTP, purified, and loaded by their own libraries."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import transformers

from api.client import Client
from core.config import ScanConfig
from core.domain import Preset, PurifyMode
from tests.support.hub import LocalHub
from tests.support.planted import CLASSES
from tests.support.planted_repositories import (
    LABELS,
    Answer,
    Score,
    planted_timm,
    planted_vit,
    reference_archive,
    score,
)
from worker.local_model import choose_from_folder, folder_manifest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

#: Small networks on a few hundred images: what the attacker had, and what may be left of it.
ATTACKED, LEFT, LOST = 0.95, 0.15, 0.06


def _load_transformers(folder: Path) -> Answer:
    network, info = transformers.AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
    assert not any(info[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert network.config.id2label == LABELS
    return lambda x: network.eval()(pixel_values=x).logits


def _load_timm(folder: Path) -> Answer:
    network: Any = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    assert network.num_classes == CLASSES
    return network  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "plant", "load"), [("vit", planted_vit, _load_transformers), ("timm", planted_timm, _load_timm)]
)
def test_scanned_by_reference_purified_and_loaded(
    name: str,
    plant: Callable[[Path], Score],
    load: Callable[[Path], Answer],
    hub: LocalHub,
    server: Client,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same model on every machine, as far as that goes
    before = plant(folder)
    torch.set_num_threads(threads)
    assert before.accuracy > 0.9
    assert before.attack_success > ATTACKED
    commit = hub.publish(f"org/{name}", {file.name: file.read_bytes() for file in folder.iterdir()})
    model = {"hub": f"org/{name}", "revision": "main"}

    config = ScanConfig.for_preset(Preset.FAST, purify=PurifyMode.ALWAYS)
    inspected = server.inspect(model, config)
    assert inspected["outcome"] == "accepted", inspected["findings"]
    assert inspected["network"]["labels"] == list(LABELS.values())

    reference = server.upload(reference_archive(tmp_path / "reference.zip"))
    submitted = server.submit(model, reference, config)
    scan = server.wait(submitted["id"])
    assert scan["state"] == "succeeded", scan["error"]
    report = server.report(scan["id"])
    assert report["detection"]["verdict"] == "backdoored"
    assert report["detection"]["targets"][0]["label"] == "diagonal"
    assert report["model"]["layout"] == inspected["layout"]
    assert report["purification"]["status"] == "published", report["purification"]
    assert commit in str(server.model(scan["model"]["id"]))

    by_role = {item["role"]: item["sha256"] for item in report["artifacts"]}
    archive = tmp_path / "purified-repository.zip"
    server.download(by_role["purified_repository"], archive)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path / "purified")
    after = score(load(tmp_path / "purified"))
    assert after.attack_success < LEFT
    assert after.accuracy > before.accuracy - LOST
    files, _ = choose_from_folder(tmp_path / "purified")
    assert folder_manifest(files).sha256 == by_role["purified_manifest"]
    # Both names of the result are known to the gate, which asks for more computation than a test spends.
    for role in ("purified_repository", "purified_manifest"):
        assert server.gate(by_role[role]).reasons == ("preset_too_low",)
