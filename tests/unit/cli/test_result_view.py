"""What a report looks like on a terminal."""

from pathlib import Path
from typing import Any

import pytest

from api.commands import result
from api.commands.result import show_report
from core.domain import Preset, PurificationStatus, PurifyMode, Verdict
from core.report.schema import (
    Certificate,
    Detection,
    EngineInfo,
    ModelInfo,
    PreprocessInfo,
    Purification,
    ReattackCurve,
    ReattackPoint,
    Report,
    Resistance,
    ThresholdProvenance,
    Verification,
)

DETECTION = Detection(
    verdict=Verdict.CLEAN,
    score=0.2,
    threshold=1.0,
    provenance=ThresholdProvenance(calibration="test", clean_models=1, backdoored_models=1, note=""),
    statistics=[],
    targets=[],
    coverage=[],
    reasons=["invented"],
)


def _resistance(worst: float, perturbed: float) -> Resistance:
    curve = ReattackCurve(learning_rate=0.01, points=[ReattackPoint(steps=5, flip_rate=worst)])
    return Resistance(curves=[curve], worst=worst, perturbed=perturbed)


def _report(certificate: Certificate | None) -> Report:
    preprocess = PreprocessInfo(mean=[0.0], std=[1.0], size=(28, 28), source="request")
    return Report(
        engine=EngineInfo(version="test", torch="2", threads=1, device="cpu"),
        config_digest="0" * 64,
        preset=Preset.STANDARD,
        purify=PurifyMode.AUTO,
        seed=0,
        model=ModelInfo(
            sha256="0" * 64,
            filename="m.pth",
            size_bytes=1,
            container="torch-zip",
            kind="classifier",
            architecture="tiny",
            architecture_source="inferred",
            num_classes=10,
            input_shape=(1, 28, 28),
            parameters=1,
            preprocess=preprocess,
        ),
        reference_set=None,
        utility=None,
        detection=DETECTION,
        purification=Purification(
            status=PurificationStatus.PUBLISHED,
            verification=Verification(
                detection=DETECTION,
                passed=True,
                inverted_flip_before=0.9,
                inverted_flip_after=0.1,
                reattack=[],
                certificate=certificate,
            ),
        ),
        artifacts=[],
        timings=[],
    )


def _certificate(control: Resistance | None) -> Certificate:
    return Certificate(
        target=1,
        operator="patch",
        poisoned=10,
        clean=30,
        images=200,
        radius=0.04,
        purified=_resistance(0.25, 0.125),
        control=control,
        control_missing="" if control else "none is known",
    )


def _shown(certificate: Certificate | None, capsys: pytest.CaptureFixture[str]) -> str:
    show_report(_report(certificate).model_dump(mode="json"), Path("out.pth"))
    return capsys.readouterr().out


def test_the_certificate_is_shown_with_its_control_or_without(capsys: pytest.CaptureFixture[str]) -> None:
    alone = _shown(_certificate(None), capsys)
    assert "retuning the trigger brings back 25.0% (no clean control)" in alone
    beside = _shown(_certificate(_resistance(0.5, 0.25)), capsys)
    assert "perturbing the trigger brings back 12.5% (a clean model: 25.0%)" in beside


def test_a_report_without_a_certificate(capsys: pytest.CaptureFixture[str]) -> None:
    assert "brings back" not in _shown(None, capsys)
    older = _report(None).model_dump(mode="json")
    del older["purification"]["verification"]["certificate"]
    show_report(older, None)
    assert "scanned again: clean" in capsys.readouterr().out


def test_what_was_kept_of_accuracy_and_retrieval(capsys: pytest.CaptureFixture[str]) -> None:
    report = _report(None).model_dump(mode="json")
    for name, measure in (("utility", "zero_shot_accuracy"), ("retrieval", "retrieval_recall")):
        report["purification"][name] = {"measure": measure, "images": 90, "before": 0.75, "after": 0.5}
    show_report(report, None)
    shown = capsys.readouterr().out
    assert "zero shot accuracy 75.0% -> 50.0%" in shown
    assert "retrieval recall 75.0% -> 50.0%" in shown


@pytest.mark.parametrize(
    ("reference", "text"),
    [
        (None, "none"),
        ({"labelled": False}, "9 of 10 images, unlabelled"),
        ({"labelled": True}, "9 of 10 images"),
        (
            {"labelled": True, "matched_by": "name", "classes_missing_total": 0},
            "9 of 10 images, classes matched by name",
        ),
        (
            {"labelled": True, "matched_by": "index", "classes_missing_total": 3},
            "9 of 10 images, classes matched by index, 3 without an image",
        ),
        (
            {"labelled": True, "matched_by": "caption", "classes_missing_total": 0, "captioned": 9},
            "9 of 10 images, 9 with texts of their own",
        ),
    ],
)
def test_how_the_reference_set_fits(reference: dict[str, Any] | None, text: str) -> None:
    counts = {"images": 10, "images_used": 9}
    assert result._reference(None if reference is None else counts | reference) == text
