"""The pipeline on a real example checkpoint, with budgets of a few steps: order, files, refusals, cancellation."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.attacks.zoo import EXAMPLES
from core.config import InversionConfig, ScanConfig, UnlearningConfig
from core.context import RunContext
from core.domain import ArtifactRole, PurificationStatus, PurifyMode, Stage, Verdict
from core.errors import CanceledError
from core.models.architectures import build
from core.models.intake import intake
from core.models.source import Source
from core.pipeline import ScanSubject, run
from core.report.schema import Report

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "fashion-mnist"
SUBJECT = ScanSubject("0" * 64, "patch.safetensors", "1" * 64)
#: Enough to go through every line, far too little to find anything.
TINY = ScanConfig(
    purify=PurifyMode.ALWAYS,
    inversion=InversionConfig(restarts=1, screen_batch=8, batch_size=8, screen_steps=2, refine_steps=2, survivors=1),
    unlearning=UnlearningConfig(rounds=1, steps=4, utility_budget=1.0),
)


@pytest.fixture(scope="module")
def with_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intake")
    intake(
        Source.single(EXAMPLE / "patch.safetensors", "patch.safetensors"),
        EXAMPLE / "reference",
        TINY,
        folder,
        RunContext(),
    )
    return folder


@pytest.fixture(scope="module")
def without_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("intake")
    intake(Source.single(EXAMPLE / "patch.safetensors", "patch.safetensors"), None, TINY, folder, RunContext())
    return folder


@pytest.fixture(scope="module")
def purified(with_reference: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path, list[str]]:
    folder = tmp_path_factory.mktemp("result")
    stages: list[str] = []

    def emit(event: Mapping[str, Any]) -> None:
        if event["event"] == "stage":
            stages.append(event["stage"])

    report = run(with_reference, folder, subject=SUBJECT, config=TINY, ctx=RunContext(emit), threads=1)
    return report, folder, stages


def test_stages_come_in_order(purified: tuple[Report, Path, list[str]]) -> None:
    report, _, stages = purified
    assert stages == ["loading", "inverting", "detecting", "unlearning", "verifying"]
    assert [timing.stage for timing in report.timings] == stages


def test_report_names_what_it_is_about(purified: tuple[Report, Path, list[str]]) -> None:
    report, _, _ = purified
    assert report.model.architecture == "preactresnet-b1.1.1-w16.32.64"
    assert report.model.input_shape == (1, 28, 28)
    assert report.reference_set is not None
    assert report.reference_set.images_used == 400
    assert report.utility is not None
    assert report.utility.before > 0.8
    assert report.config_digest == TINY.digest
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_artifacts_are_what_the_report_says(purified: tuple[Report, Path, list[str]]) -> None:
    report, folder, _ = purified
    roles = {artifact.role for artifact in report.artifacts}
    assert {ArtifactRole.PURIFIED_ORIGINAL, ArtifactRole.PURIFIED_SAFETENSORS} <= roles
    for artifact in report.artifacts:
        content = (folder / artifact.filename).read_bytes()
        assert hashlib.sha256(content).hexdigest() == artifact.sha256
        assert len(content) == artifact.size_bytes


def test_purified_weights_load_strictly_and_have_moved(purified: tuple[Report, Path, list[str]]) -> None:
    report, folder, _ = purified
    before = load_file(EXAMPLE / "patch.safetensors")
    network = build(EXAMPLES[0].architecture, 10, 1)
    for artifact in report.artifacts:
        if artifact.role is ArtifactRole.TRIGGER_IMAGE:
            continue
        after = load_file(folder / artifact.filename)
        network.load_state_dict(after, strict=True)
        assert list(after) == list(before)
        assert any(not torch.equal(after[key], before[key]) for key in before)
        frozen = [key for key in before if "running_" in key]
        assert frozen
        assert all(torch.equal(after[key], before[key]) for key in frozen)


def test_verification_is_a_scan_of_its_own(purified: tuple[Report, Path, list[str]]) -> None:
    report, _, _ = purified
    verification = report.purification.verification
    assert verification is not None
    assert verification.detection.statistics != report.detection.statistics
    certificate = verification.certificate
    assert certificate is not None
    assert [point.steps for point in verification.reattack] == [5, 10, 20, 50]
    assert max(point.flip_rate for point in verification.reattack) == certificate.purified.worst
    assert certificate.control is None
    assert certificate.control_missing


def test_same_seed_same_figures_another_seed_others(with_reference: Path, tmp_path: Path) -> None:
    def figures(seed: int) -> dict[str, Any]:
        config = replace(TINY, purify=PurifyMode.NEVER, seed=seed)
        report = run(with_reference, tmp_path / "r", subject=SUBJECT, config=config, ctx=RunContext(), threads=1)
        return report.detection.model_dump()

    first = figures(0)
    assert figures(0) == first
    assert figures(1)["statistics"] != first["statistics"]


def test_without_reference_never_clean_and_not_purified(without_reference: Path, tmp_path: Path) -> None:
    report = run(without_reference, tmp_path, subject=SUBJECT, config=TINY, ctx=RunContext(), threads=1)
    assert report.detection.verdict is not Verdict.CLEAN
    assert report.reference_set is None
    assert report.utility is None
    assert report.purification.status is PurificationStatus.REFUSED
    assert report.purification.reason_code == "reference_required"


@pytest.mark.parametrize(
    ("mode", "status"),
    [(PurifyMode.NEVER, PurificationStatus.NOT_REQUESTED), (PurifyMode.AUTO, PurificationStatus.NOT_NEEDED)],
)
def test_no_purification_unless_wanted(
    with_reference: Path, tmp_path: Path, mode: PurifyMode, status: PurificationStatus
) -> None:
    config = replace(TINY, purify=mode)
    report = run(with_reference, tmp_path, subject=SUBJECT, config=config, ctx=RunContext(), threads=1)
    assert report.detection.verdict is not Verdict.BACKDOORED, "the budget is meant to find nothing"
    assert report.purification.status is status
    assert not any(artifact.role is ArtifactRole.PURIFIED_SAFETENSORS for artifact in report.artifacts)


def test_over_budget_nothing_is_published_and_the_report_says_why(with_reference: Path, tmp_path: Path) -> None:
    config = replace(TINY, unlearning=replace(TINY.unlearning, lr=0.5, utility_budget=-0.5))
    report = run(with_reference, tmp_path, subject=SUBJECT, config=config, ctx=RunContext(), threads=1)
    assert report.purification.status is PurificationStatus.WITHHELD
    assert report.purification.reason_code == "utility_budget_exceeded"
    assert "budget" in report.purification.reason
    assert not list(tmp_path.glob("purified*"))


@pytest.mark.parametrize("stage", [Stage.LOADING, Stage.INVERTING, Stage.DETECTING, Stage.UNLEARNING, Stage.VERIFYING])
def test_cancel_in_every_stage(with_reference: Path, tmp_path: Path, stage: Stage) -> None:
    reached: list[str] = []

    def emit(event: Mapping[str, Any]) -> None:
        if event["event"] == "stage":
            reached.append(event["stage"])

    ctx = RunContext(emit, should_stop=lambda: stage in reached)
    with pytest.raises(CanceledError):
        run(with_reference, tmp_path, subject=SUBJECT, config=TINY, ctx=ctx, threads=1)
    assert reached[-1] == stage
