"""Backdoored CLIPs over HTTP, uploaded and by reference to a Hub: scanned, purified, loaded by their own libraries."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from api.client import Client
from api.commands.examples import ROOT, ClipExamples
from core.config import ScanConfig
from core.domain import Preset, PurifyMode
from tests.support.hub import LocalHub
from tests.support.planted_clips import NAMES, loaded_clip_model, pairs_archive, planted_clip_model
from tests.support.planted_repositories import score

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_200)]

#: Preset fast has one round, which does not remove all: what may be left of the backdoor, and what may be lost.
LEFT, LOST = 0.5, 0.06


def _scan(
    server: Client, model: dict[str, Any], reference: str, preset: Preset = Preset.FAST, **options: Any
) -> dict[str, Any]:
    config = ScanConfig.for_preset(preset, purify=PurifyMode.ALWAYS, **options)
    scan = server.wait(server.submit(model, reference, config)["id"])
    assert scan["state"] == "succeeded", scan["error"]
    assert server.model(scan["model"]["id"])["kind"] == "clip"
    report = server.report(scan["id"])
    assert (report["model"]["kind"], scan["config"]["kind"]) == ("clip", "auto")
    return report


def _purified(server: Client, report: dict[str, Any], folder: Path) -> Path:
    assert report["purification"]["status"] == "published", report["purification"]
    by_role = {item["role"]: item["sha256"] for item in report["artifacts"]}
    archive = folder / "purified.zip"
    server.download(by_role["purified_repository"], archive)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(folder / "purified")
    return folder / "purified"


def test_a_folder_of_open_clip_uploaded_with_pairs(server: Client, tmp_path: Path) -> None:
    examples = ClipExamples()
    names = examples.config.vocabulary
    reference = server.upload(examples.reference(tmp_path))
    report = _scan(server, examples.send(server, "patch"), reference, vocabulary=names)
    target = json.loads((examples.folder / "provenance.json").read_text())["models"]["patch"]["attacks"][0]["target"]
    assert report["detection"]["verdict"] == "backdoored"
    assert names[target] in [found["label"] for found in report["detection"]["targets"][:3]]
    assert (report["model"]["layout"], report["model"]["num_classes"]) == ("open_clip", len(names))
    assert report["model"]["vocabulary"]["source"] == "request"
    used = report["reference_set"]
    assert (used["images_used"], used["captioned"], used["labelled"]) == (448, 448, True)
    assert report["utility"]["measure"] == "zero_shot_accuracy"

    folder = _purified(server, report, tmp_path)
    # Loaded by open_clip, in a process of its own, as the demo does it.
    done = subprocess.run(
        [sys.executable, "-m", "examples.measure_clip", json.dumps({"patch": str(folder)})],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    measured = json.loads(done.stdout)["patch"]
    assert measured["asr_before"] > 0.95
    assert measured["asr_after"] < LEFT
    assert measured["acc_after"] > measured["acc_before"] - LOST


def test_a_clip_model_by_reference_to_a_hub(hub: LocalHub, server: Client, tmp_path: Path) -> None:
    folder = tmp_path / "planted"
    folder.mkdir()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same model on every machine, as far as that goes
    before = planted_clip_model(folder)
    torch.set_num_threads(threads)
    assert before.accuracy > 0.9
    assert before.attack_success > 0.95
    commit = hub.publish("org/clip", {file.name: file.read_bytes() for file in folder.iterdir()})
    model = {"hub": "org/clip", "revision": "main"}
    inspected = server.inspect(model, ScanConfig())
    assert (inspected["outcome"], inspected["kind"]) == ("accepted", "clip"), inspected["findings"]

    reference = server.upload(pairs_archive(tmp_path / "pairs.tar"))
    report = _scan(server, model, reference, Preset.STANDARD)  # one round leaves two fifths of it, and is withheld
    assert report["detection"]["verdict"] == "backdoored"
    assert report["detection"]["targets"][0]["label"] == "a diagonal"
    assert report["model"]["layout"] == "transformers"
    assert report["model"]["vocabulary"]["source"] == "captions"
    assert sorted(report["model"]["vocabulary"]["names"]) == sorted(f"a {name}" for name in NAMES)
    assert commit in str(server.model(server.scans(1)[0]["model"]["id"]))

    after = score(loaded_clip_model(_purified(server, report, tmp_path)))
    assert after.attack_success < LEFT
    assert after.accuracy > before.accuracy - LOST
