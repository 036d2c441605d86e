"""Markdown from rows of purification and detection."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from core.attacks.zoo import EMBEDDED
from core.bench.methods import DETECTING, NONE, PURIFYING
from core.bench.rows import DetectRow, Key, PurifyRow
from core.bench.stats import Estimate, auroc_interval, clopper_pearson, mean_of_cells
from core.bench.work import CLEAN

Row = TypeVar("Row", PurifyRow, DetectRow)

_MIB = 1024**2


def acc_loss(row: PurifyRow) -> float:
    """Accuracy lost to the method; negative if it gained."""
    return row.acc_before - row.acc


def excess_asr(row: PurifyRow) -> float:
    """ASR above a clean model's under the same trigger; what is below does not make up for others."""
    return max(0.0, row.asr - row.asr_clean)


def excess_reattack(row: PurifyRow) -> float:
    """The same for the worst of the retuning grid."""
    return max(0.0, row.reattack["worst"] - row.reattack["worst_clean"])


def excess_perturbed(row: PurifyRow) -> float:
    """The same for the perturbed trigger."""
    return max(0.0, row.reattack["perturbed"] - row.reattack["perturbed_clean"])


def _ra_short(row: PurifyRow) -> float:
    return row.ra_clean - row.ra


def embedded(row: PurifyRow | DetectRow) -> bool:
    """Whether the suspect had its backdoor; always true of a clean model, which is counted as what it is."""
    asr = row.asr_before if isinstance(row, PurifyRow) else row.detail["asr"]
    return asr is None or asr >= EMBEDDED


def purify_table(rows: Iterable[PurifyRow]) -> str:
    """Means with intervals, the cells by themselves, what is not counted."""
    rows = list(rows)
    counted = [row for row in rows if embedded(row)]
    parts = [_purify_means(counted), _purify_cells(counted), _reattack_cells(counted)] if counted else []
    parts.append(_retrieval_cells([row for row in counted if "retrieval" in row.detail]))
    parts.append(_left_out(rows))
    return "\n\n".join(part for part in parts if part) + "\n"


def _purify_means(rows: Sequence[PurifyRow]) -> str:
    lines = [
        "| method | ACC loss | ASR | excess ASR | worst cell's | RA | RA below clean | re-attack: excess | "
        "perturbed: excess | images | s | MiB | models |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method, chosen in _by_method(rows, PURIFYING):
        cells = _cells(chosen)
        worst_cell = max(_mean(excess_asr(row) for row in cell) for cell in cells.values())

        def over(figure: Callable[[PurifyRow], float], cells: dict[Key, list[PurifyRow]] = cells) -> str:
            return _estimate(cells, figure).percent()

        lines.append(
            f"| {method} | {over(acc_loss)} | {over(lambda row: row.asr)} | {over(excess_asr)} | "
            f"{100 * worst_cell:.1f} | {over(lambda row: row.ra)} | {over(_ra_short)} | {over(excess_reattack)} | "
            f"{over(excess_perturbed)} | {_mean(row.passes for row in chosen):,.0f} | "
            f"{_mean(row.wall_s for row in chosen):.1f} | {_mean(row.peak_rss_bytes for row in chosen) / _MIB:.0f} | "
            f"{len(chosen)} |"
        )
    return "\n".join(lines)


def _purify_cells(rows: Sequence[PurifyRow]) -> str:
    return _matrix(
        "ACC / ASR / RA after the method, means over seeds",
        rows,
        lambda row: (row.acc, row.asr, row.ra),
        lambda row: (float(row.detail["acc_clean"]), row.asr_clean, row.ra_clean),
    )


def _reattack_cells(rows: Sequence[PurifyRow]) -> str:
    return _matrix(
        "Re-attack: worst ASR of the retuning grid / with a perturbation on the trigger",
        rows,
        lambda row: (row.reattack["worst"], row.reattack["perturbed"]),
        lambda row: (row.reattack["worst_clean"], row.reattack["perturbed_clean"]),
    )


def _retrieval_cells(rows: Sequence[PurifyRow]) -> str:
    """Empty for classifiers."""
    if not rows:
        return ""
    return _matrix(
        "Recall at rank one of the images' texts, by concept",
        rows,
        lambda row: (row.detail["retrieval"],),
        lambda row: (row.detail["retrieval_clean"],),
    )


def _matrix(
    title: str,
    rows: Sequence[PurifyRow],
    figures: Callable[[PurifyRow], tuple[float, ...]],
    clean: Callable[[PurifyRow], tuple[float, ...]],
) -> str:
    """A line for each cell, a column for each method and one for the clean model."""
    methods = [method for method, _ in _by_method(rows, PURIFYING)]
    lines = [f"**{title}**", "", f"| cell | clean model | {' | '.join(methods)} |", "|---" * (len(methods) + 2) + "|"]
    for cell, chosen in _cells(rows).items():
        entries = [_joined([clean(row) for row in chosen if row.method == NONE])]
        entries += [_joined([figures(row) for row in chosen if row.method == method]) for method in methods]
        lines.append(f"| {' '.join(map(str, cell))} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _joined(figures: Sequence[tuple[float, ...]]) -> str:
    return " / ".join(f"{100 * _mean(values):.1f}" for values in zip(*figures, strict=True)) if figures else "–"


def _left_out(rows: Sequence[PurifyRow]) -> str:
    first = [row for row in rows if row.method == NONE]
    lines = [_weak(_name(row), row.asr_before) for row in first if not embedded(row)]
    methods = {row.method for row in rows}
    measured = {row.key for row in rows}
    for row in first:
        lines += [
            f"- {_name(row)}: no result of {method}."
            for method in PURIFYING
            if embedded(row) and method in methods and (*row.key[:-1], method) not in measured
        ]
    return "\n".join(lines)


def _weak(name: str, asr: float) -> str:
    return f"- {name}: not counted, the backdoor did not embed (ASR {100 * asr:.1f})."


def detect_table(rows: Iterable[DetectRow]) -> str:
    """AUROC and rates of each detector, every model by itself, what is not counted."""
    all_rows = list(rows)
    rows = [row for row in all_rows if embedded(row)]
    lines = [
        "| detector | AUROC | found (TPR) | false alarms (FPR) | target named | in the first three | images | s | "
        "MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for method, chosen in _by_method(rows, DETECTING):
        clean = [row for row in chosen if row.attack == CLEAN]
        attacked = [row for row in chosen if row.attack != CLEAN]
        area = "–"
        if clean and attacked:
            estimate = auroc_interval([row.score for row in clean], [row.score for row in attacked])
            area = f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
        lines.append(
            f"| {method} | {area} | {_rate([row.suspicious for row in attacked])} | "
            f"{_rate([row.suspicious for row in clean])} | {_rate([bool(row.named) for row in attacked])} | "
            f"{_rate([_in_first_three(row) for row in attacked])} | "
            f"{_mean(row.passes for row in chosen):,.0f} | {_mean(row.wall_s for row in chosen):.1f} | "
            f"{_mean(row.peak_rss_bytes for row in chosen) / _MIB:.0f} |"
        )
    left_out = {_name(row): row.detail["asr"] for row in all_rows if not embedded(row)}
    parts = ["\n".join(lines), _verdicts(rows), "\n".join(_weak(name, asr) for name, asr in left_out.items())]
    return "\n\n".join(part for part in parts if part) + "\n"


def _in_first_three(row: DetectRow) -> bool:
    """Whether a true target is among those that the detector would look at first, suspicious or not."""
    first = row.detail.get("ranked", row.detail["targets"])[:3]
    return any(target in row.detail["true_targets"] for target in first)


def _verdicts(rows: Sequence[DetectRow]) -> str:
    lines = [
        "| model | true target | detector | verdict | score | p | named |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        truth = "none" if row.attack == CLEAN else _targets(row.detail["true_targets"])
        chance = "–" if row.p_value is None else f"{row.p_value:.3f}"
        lines.append(
            f"| {_name(row)} | {truth} | {row.method} | {row.verdict} | {row.score:.2f} | {chance} | "
            f"{_targets(row.detail['targets'])} |"
        )
    return "\n".join(lines)


def zoo_table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """What became of each recipe, by name."""
    lines = ["| model | ACC | ASR | RA | embedded | training, s |", "|---|---|---|---|---|---|"]
    for name, record in sorted(records.items()):
        rates = " | | " if not record["attacks"] else f"{100 * record['asr']:.1f} | {100 * record['ra']:.1f} | "
        rates += "" if not record["attacks"] else "yes" if record["asr"] >= EMBEDDED else "**no**"
        lines.append(f"| {name} | {100 * record['acc']:.1f} | {rates} | {record['training_s']:.0f} |")
    return "\n".join(lines) + "\n"


def _targets(targets: Sequence[int | None]) -> str:
    return ", ".join("by source" if target is None else str(target) for target in targets) or "–"


def _rate(hits: Sequence[bool]) -> str:
    if not hits:
        return "–"
    return f"{sum(hits)}/{len(hits)}: {clopper_pearson(sum(hits), len(hits)).percent()}"


def _name(row: PurifyRow | DetectRow) -> str:
    return f"{' '.join(map(str, row.cell))} s{row.seed}"


def _by_method(rows: Sequence[Row], order: Sequence[str]) -> list[tuple[str, list[Row]]]:
    groups = [(method, [row for row in rows if row.method == method]) for method in order]
    return [(method, chosen) for method, chosen in groups if chosen]


def _cells(rows: Sequence[PurifyRow]) -> dict[Key, list[PurifyRow]]:
    cells: dict[Key, list[PurifyRow]] = {}
    for row in rows:
        cells.setdefault(row.cell, []).append(row)
    return cells


def _estimate(cells: dict[Key, list[PurifyRow]], figure: Callable[[PurifyRow], float]) -> Estimate:
    return mean_of_cells([[figure(row) for row in cell] for cell in cells.values()])


def _mean(values: Iterable[float]) -> float:
    values = list(values)
    return sum(values) / len(values)
