"""Markdown from the JSON lines of natural_images.py."""

from typing import Any

_NAMES = {"suspect": "suspect", "fine_tuned": "fine-tuned", "purified": "purified", "clean": "clean model"}


def render(rows: list[dict[str, Any]]) -> str:
    """Three tables: verdicts, before and after, re-attack curves."""
    return "\n".join([*_verdicts(rows), "", *_before_after(rows), "", *_curves(rows), ""])


def _verdicts(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| model | truth | verdict | score (threshold) | true target | targets named | ACC | purification | scan, s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        named = ", ".join(f"{t['target']} ({t['operator']})" for t in row["targets"]) or "none"
        target = "" if row["true_target"] is None else row["true_target"]
        lines.append(
            f"| {row['name']} | {row['truth']} | {row['verdict']} | {row['score']:.2f} ({row['threshold']:.2f}) | "
            f"{target} | {named} | {row['acc_before']:.3f} | {row['purification']['status']} | {row['wall_s']:.0f} |"
        )
    return lines


def _before_after(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| model | weights | ACC | ASR | RA |", "|---|---|---|---|---|"]
    for row in rows:
        for name, rates in _models(row, "models"):
            lines.append(f"| {row['name']} | {name} | {rates['acc']:.3f} | {rates['asr']:.3f} | {rates['ra']:.3f} |")
    return lines


def _curves(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| model | weights | learning rate | 5 steps | 10 | 20 | 50 | 100 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        for name, curves in _models(row, "reattack"):
            for lr, curve in curves.items():
                points = " | ".join(f"{rate:.3f}" for rate in curve.values())
                lines.append(f"| {row['name']} | {name} | {lr} | {points} |")
    return lines


def _models(row: dict[str, Any], key: str) -> list[tuple[str, dict[str, Any]]]:
    measured = row.get(key, {})
    return [(label, measured[name]) for name, label in _NAMES.items() if name in measured]
