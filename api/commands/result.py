"""A report for people, on standard output."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from api.commands.common import out
from core.domain import PurificationStatus, Verdict

_STYLE = {Verdict.CLEAN: "bold green", Verdict.BACKDOORED: "bold red", Verdict.INCONCLUSIVE: "bold yellow"}


def verdict_text(verdict: str | None) -> Text:
    """The verdict in its colour; a dash if there is none."""
    return Text("-") if verdict is None else Text(verdict, style=_STYLE[Verdict(verdict)])


def show_report(report: Mapping[str, Any], target: Path | None) -> None:
    """The verdict, why, and what became of the purification.

    Args:
        target: where purified weights were to be saved.
    """
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column()
    for name, value in _rows(report, target):
        table.add_row(name, value if isinstance(value, Text) else Text(value))
    out().print(table)


def _rows(report: Mapping[str, Any], target: Path | None) -> Iterator[tuple[str, Text | str]]:
    detection, model = report["detection"], report["model"]
    yield "verdict", verdict_text(detection["verdict"])
    yield "score", f"{detection['score']:.3g} (backdoored from {detection['threshold']:.3g} on)"
    for reason in detection["reasons"]:
        yield "because", reason
    for finding in detection["targets"]:
        yield "target", _target(finding)
    yield "model", f"{model['filename']}, {model['architecture']}, {_targets(model)}"
    yield "reference", _reference(report["reference_set"])
    if report["utility"] is not None:
        utility = report["utility"]
        yield utility["measure"].replace("_", " "), f"{utility['before']:.1%} of {utility['images']} images"
    yield from _purification(report["purification"], target)


def _targets(model: Mapping[str, Any]) -> str:
    vocabulary = model.get("vocabulary")
    return f"{model['num_classes']} " + (f"targets from the {vocabulary['source']}" if vocabulary else "classes")


def _reference(reference: Mapping[str, Any] | None) -> str:
    """How much of the set was used, and how it fits the model."""
    if reference is None:
        return "none"
    text = f"{reference['images_used']} of {reference['images']} images"
    if not reference["labelled"]:
        return f"{text}, unlabelled"
    if "matched_by" not in reference:  # a report of an earlier version
        return text
    if reference.get("captioned"):
        return f"{text}, {reference['captioned']} with texts of their own"
    missing = reference["classes_missing_total"]
    matched = f"{text}, classes matched by {reference['matched_by']}"
    return f"{matched}, {missing} without an image" if missing else matched


def _target(finding: Mapping[str, Any]) -> str:
    name = "depends on the source class" if finding["target"] is None else f"class {finding['target']}"
    if finding["label"]:
        name += f" ({finding['label']})"
    return f"{name}: {finding['operator']}, flips {finding['flip_rate']:.1%}, energy {finding['energy']:.3g}"


def _certificate(certificate: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """How far an attacker gets with what was inverted, beside a clean model if one is known."""
    control = certificate["control"]
    for what, name in (("retuning", "worst"), ("perturbing", "perturbed")):
        beside = "no clean control" if control is None else f"a clean model: {control[name]:.1%}"
        yield "", f"{what} the trigger brings back {certificate['purified'][name]:.1%} ({beside})"


def _purification(purification: Mapping[str, Any], target: Path | None) -> Iterator[tuple[str, str]]:
    status = purification["status"]
    yield "purified", status.replace("_", " ") + (f": {purification['reason']}" if purification["reason"] else "")
    utility, verification = purification["utility"], purification["verification"]
    for kept in (utility, purification.get("retrieval")):
        if kept is not None and kept["after"] is not None:
            yield "", f"{kept['measure'].replace('_', ' ')} {kept['before']:.1%} -> {kept['after']:.1%}"
    if verification is not None:
        before, after = verification["inverted_flip_before"], verification["inverted_flip_after"]
        yield "", f"worst inverted trigger flips {before:.1%} -> {after:.1%}"
        yield "", f"scanned again: {verification['detection']['verdict']}"
        if verification.get("certificate"):  # servers of earlier versions have none
            yield from _certificate(verification["certificate"])
    if status == PurificationStatus.PUBLISHED and target is not None:
        yield "saved", str(target)
