"""`assay bench`: the method and published defences on models of known truth. Everything heavy is imported late."""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from api.commands.common import ExitCode, err, load_settings, out
from core.domain import Preset
from core.errors import InvalidInputError

if TYPE_CHECKING:
    from core.attacks.suite import Cell
    from core.bench.conditions import Conditions
    from core.bench.runner import Finished, OnProgress, Run, Suite
    from core.bench.work import Subject

#: Debian's package dataset-fashion-mnist.
_FASHION = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True, slots=True)
class Models:
    """Which models.

    Attributes:
        suite: smoke, full or clip. data: only on this data set; None for the suite's own.
        seeds: from 100 on they are for choosing, below for judging.
        shard: (i, n): the i-th of n shares, i from 1.
    """

    suite: str
    data: str | None
    seeds: range
    shard: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Terms:
    """What defenders have: reference 100, 400 or 5pc; preset of our method; names of methods, empty for all."""

    reference: str
    preset: Preset
    methods: str


@dataclass(frozen=True, slots=True)
class Folders:
    """Where rows, tables and plots go, and where trained models are kept."""

    out: Path
    zoo: Path


_USUAL = Terms("400", Preset.STANDARD, "")


def purify(models: Models, terms: Terms, folders: Folders, workers: int) -> int:
    """Every method on every backdoored model."""
    from core.bench import runner

    chosen = _chosen(terms.methods, runner.Suite(models.suite).methods.purifying)
    cells = _cells(models)
    subjects = _share(runner.attacked(cells, models.seeds), models.shard)
    run = _run(_conditions(models.suite, terms), folders, workers, cells)
    return _finish(run, lambda run: runner.run_purify(subjects, chosen, run))


def detect(models: Models, terms: Terms, folders: Folders, workers: int) -> int:
    """Every detector on every model, clean ones included."""
    from core.bench import runner

    chosen = _chosen(terms.methods, runner.Suite(models.suite).methods.detecting)
    cells = _cells(models)
    subjects = _share([*runner.beside(cells, models.seeds), *runner.attacked(cells, models.seeds)], models.shard)
    run = _run(_conditions(models.suite, terms), folders, workers, cells)
    return _finish(run, lambda run: runner.run_detect(subjects, chosen, run))


def train(models: Models, folders: Folders, workers: int, *, clean: bool) -> int:
    """The models of a suite; with `clean` only those without a backdoor."""
    from core.bench import runner

    cells = _cells(models)
    subjects = _share((runner.clean if clean else runner.attacked)(cells, models.seeds), models.shard)
    run = _run(_conditions(models.suite, _USUAL), folders, workers, cells)
    return _finish(run, lambda run: runner.run_zoo(subjects, run))


def cost(models: Models, folders: Folders, threads: int) -> int:
    """Images and seconds; `threads` 0 for all cores."""
    from core import devices
    from core.bench import runner
    from core.bench.cost import cells_of, run_cost

    suite = runner.Suite(models.suite)
    cells = _known(cells_of, suite, models.data)
    conditions = replace(_conditions(models.suite, _USUAL), threads=threads or devices.available_cores())
    subjects = runner.attacked(cells, models.seeds)
    return _finish(_run(conditions, folders, 1, cells), lambda run: run_cost(subjects, suite, run))


def parse_shard(text: str) -> tuple[int, int]:
    """`2/3` -> (2, 3).

    Raises:
        typer.BadParameter: it is not of that form.
    """
    index, _, of = text.partition("/")
    if index.isdecimal() and of.isdecimal() and 1 <= int(index) <= int(of):
        return int(index), int(of)
    raise typer.BadParameter(f"{text} is not of the form i/n with 1 <= i <= n", param_hint="--shard")


def _cells(models: Models) -> "tuple[Cell, ...]":
    from core.bench.runner import Suite, cells_of

    return _known(cells_of, Suite(models.suite), models.data)


def _known(
    find: "Callable[[Suite, str | None], tuple[Cell, ...]]", suite: "Suite", data: str | None
) -> "tuple[Cell, ...]":
    """A data set that a suite has not is wrong usage."""
    try:
        return find(suite, data)
    except InvalidInputError as error:
        raise typer.BadParameter(error.detail, param_hint="--data") from None


def _share(subjects: "list[Subject]", shard: tuple[int, int]) -> "list[Subject]":
    index, of = shard
    return subjects[index - 1 :: of]


def _chosen(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(wanted) - set(known)):
        message = f"no such method: {', '.join(unknown)}; there are {', '.join(known)}"
        raise typer.BadParameter(message, param_hint="--methods")
    return tuple(name for name in known if not wanted or name in wanted)


def _conditions(suite: str, terms: Terms) -> "Conditions":
    from core.bench.conditions import Conditions, Reference
    from core.bench.runner import Suite

    return Conditions(Reference(terms.reference), terms.preset, Suite(suite).effort, threads=1)


def _run(conditions: "Conditions", folders: Folders, workers: int, cells: "tuple[Cell, ...]") -> "Run":
    """Data in ASSAY_DATASETS_DIR, Fashion-MNIST also where Debian puts it.

    Raises:
        InvalidInputError: a data set of these cells is not there.
    """
    from core import devices
    from core.attacks.clip.suite import ClipCell
    from core.bench.runner import Run
    from core.bench.workers import Place

    datasets = load_settings().datasets_dir
    fashion = _FASHION if datasets is None or not (datasets / _FASHION.name).is_dir() else datasets / _FASHION.name
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "assay"
    clip = any(isinstance(cell, ClipCell) for cell in cells)
    place = Place(folders.zoo, datasets, fashion, cache, clip)
    place.require({cell.data for cell in cells})
    return Run(conditions, folders.out, place, workers or devices.available_cores(), lambda *_: None)


def _finish(run: "Run", work: "Callable[[Run], Finished]") -> int:
    """Work under a progress bar and say what was written; exit code 3 if something could not be measured."""
    with _Bar() as on_progress:
        finished = work(replace(run, on_progress=on_progress))
    for note in finished.unsupported:
        err().print(f"not applicable: {note}", style="dim", markup=False)
    for failure in finished.failures:
        err().print(failure, style="red", markup=False)
    for path in finished.written:
        out().print(str(path), markup=False)
    return ExitCode.FAILED if finished.failures else 0


class _Bar:
    """A bar on a terminal, a line per row elsewhere."""

    def __init__(self) -> None:
        self._interactive = err().is_terminal
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=err(),
            disable=not self._interactive,
        )
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> "OnProgress":
        self._bar.start()
        return self._show

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, done: int, total: int, what: str) -> None:
        self._bar.update(self._task, completed=done, total=total, description=what or "starting")
        if what and not self._interactive:
            err().print(f"{done}/{total} {what}", markup=False)
