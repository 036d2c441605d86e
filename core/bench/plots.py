"""Pictures of the tables. Needs matplotlib, which the extra `bench` brings."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from core.bench.methods import DETECTING, PURIFYING
from core.bench.rows import DetectRow, PurifyRow
from core.bench.table import acc_loss, embedded, excess_asr
from core.bench.work import CLEAN


def available() -> bool:
    """Whether matplotlib is there."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_purify(rows: Sequence[PurifyRow], folder: Path) -> list[Path]:
    """tradeoff.svg (each method's accuracy loss against excess ASR) and reattack.svg (ASR over retuning steps)."""
    from matplotlib.figure import Figure

    counted = [row for row in rows if embedded(row)]
    methods = [method for method in PURIFYING if any(row.method == method for row in counted)]
    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for method in methods:
        chosen = [row for row in counted if row.method == method]
        losses, rates = ([100 * measure(row) for row in chosen] for measure in (acc_loss, excess_asr))
        axes.scatter(losses, rates, s=18, alpha=0.7, label=method)
    axes.set(xlabel="accuracy lost, points", ylabel="ASR above a clean model's, points", ylim=(-3, 103))
    axes.legend(fontsize="small")
    tradeoff = folder / "tradeoff.svg"
    figure.savefig(tradeoff)

    figure = Figure(figsize=(6, 4.5), layout="constrained")
    axes = figure.subplots()
    for method in methods:
        curve = _mean_curve([row.detail["triggers"] for row in counted if row.method == method])
        axes.plot(list(curve), [100 * rate for rate in curve.values()], marker="o", markersize=3, label=method)
    clean = _mean_curve([row.detail["clean"] for row in counted if "clean" in row.detail])
    axes.plot(list(clean), [100 * rate for rate in clean.values()], "k--", label="clean model")
    axes.set(xlabel="retuning steps", ylabel="ASR, worst learning rate", xscale="log", ylim=(-3, 103))
    axes.legend(fontsize="small")
    reattack = folder / "reattack.svg"
    figure.savefig(reattack)
    return [tradeoff, reattack]


def plot_detect(rows: Sequence[DetectRow], folder: Path) -> list[Path]:
    """scores.svg: each detector's scores of clean and of backdoored models."""
    from matplotlib.figure import Figure

    methods = [method for method in DETECTING if any(row.method == method for row in rows)]
    figure = Figure(figsize=(3 * len(methods), 4), layout="constrained")
    for axes, method in zip(figure.subplots(1, len(methods), squeeze=False)[0], methods, strict=True):
        for place, clean in enumerate((True, False)):
            scores = [row.score for row in rows if row.method == method and (row.attack == CLEAN) == clean]
            axes.scatter([place] * len(scores), scores, s=14, alpha=0.6)
        axes.set(title=method, xlim=(-0.5, 1.5), ylabel="score")
        axes.set_xticks([0, 1], ["clean", "backdoored"])
    path = folder / "scores.svg"
    figure.savefig(path)
    return [path]


def _mean_curve(models: Sequence[Sequence[dict[str, dict[str, dict[str, float]]]]]) -> dict[int, float]:
    """Steps -> ASR at the worst learning rate, averaged over triggers, then over models."""
    by_steps: dict[int, list[float]] = {}
    for triggers in models:
        steps = next(iter(triggers[0]["curves"].values()))
        for step in steps:
            worst = [max(curve[step] for curve in trigger["curves"].values()) for trigger in triggers]
            by_steps.setdefault(int(step), []).append(sum(worst) / len(worst))
    return {step: sum(rates) / len(rates) for step, rates in sorted(by_steps.items())}
