"""Rows with invented figures."""

from typing import Any

from core.bench.rows import DetectRow, PurifyRow


def purify_row(method: str = "none", attack: str = "badnets", seed: int = 1, **changes: Any) -> PurifyRow:
    """A suspect at ACC .9 and ASR 1 that the method brings to .85 and .3; a clean model has .02."""
    curves = {"0.01": {"5": 0.4, "10": 0.6}, "0.03": {"5": 0.5, "10": 0.2}}
    figures = {
        "data": "fashion-mnist",
        "model": "preact",
        "acc_before": 0.9,
        "acc": 0.9 if method == "none" else 0.85,
        "asr_before": 1.0,
        "asr": 1.0 if method == "none" else 0.3,
        "ra": 0.6,
        "asr_clean": 0.02,
        "ra_clean": 0.9,
        "reattack": {"worst": 0.6, "perturbed": 0.3, "worst_clean": 0.5, "perturbed_clean": 0.4},
        "passes": 1000,
        "wall_s": 2.0,
        "peak_rss_bytes": 100 * 2**20,
        "detail": {"triggers": [{"curves": curves}]}
        | ({"acc_clean": 0.91, "clean": [{"curves": curves}]} if method == "none" else {}),
    }
    return PurifyRow(attack=attack, method=method, seed=seed, **(figures | changes))  # type: ignore[arg-type]


def detect_row(method: str, attack: str, seed: int, score: float, **changes: Any) -> DetectRow:
    """Suspicious from a score of 1 on; backdoored models lead to class 3, which is named."""
    backdoored = attack != "clean"
    figures = {
        "data": "fashion-mnist",
        "model": "preact",
        "suspicious": score >= 1,
        "verdict": "backdoored" if score >= 1 else "clean",
        "p_value": None,
        "target": 3 if score >= 1 else None,
        "named": score >= 1 if backdoored else None,
        "passes": 500,
        "wall_s": 1.0,
        "peak_rss_bytes": 2**20,
        "detail": {
            "asr": 0.99 if backdoored else None,
            "targets": [3] if score >= 1 else [],
            "true_targets": [3] if backdoored else [],
        },
    }
    row = figures | {"attack": attack, "method": method, "seed": seed, "score": score} | changes
    return DetectRow(**row)  # type: ignore[arg-type]
