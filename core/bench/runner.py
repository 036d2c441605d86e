"""A suite of models through a list of methods: what is still missing is measured, then the tables are written."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from core.attacks.clip.suite import CLIP_CELLS
from core.attacks.datasets import PARTS
from core.attacks.suite import CELLS, SMOKE, Cell
from core.bench import plots
from core.bench.conditions import Conditions, Effort
from core.bench.methods import CLASSIFIERS, CLIPS, NONE, Methods
from core.bench.rows import DetectRow, PurifyRow, RowFile
from core.bench.table import detect_table, embedded, purify_table, zoo_table
from core.bench.work import CLEAN, Subject, Unsupported, detect_one, purify_one, train
from core.bench.workers import Outcome, Place, Task, run_tasks
from core.errors import InvalidInputError
from core.evaluation.reattack import TEXT_RATES

Row = TypeVar("Row", PurifyRow, DetectRow)

#: Clean models of one kind for every seed that a detector is judged on, at most.
_MOST_CLEAN = 6

#: Called with (rows done, rows wanted, what was done last).
OnProgress = Callable[[int, int, str], None]

#: For runs in minutes: fewer test images, and shorter re-attacks, at the middle learning rate and with one restart.
_QUICK = Effort(
    test_images=2000, attacked_images=500, rates=(0.01,), steps=(5, 10, 20, 50), perturbing_steps=20, restarts=1
)
#: Retuning is looked at from fewer steps on.
_CLIP = Effort(rates=TEXT_RATES, steps=(4, 8, 16, 32, 64, 100))


class Suite(StrEnum):
    """Which models."""

    SMOKE = "smoke"
    FULL = "full"
    CLIP = "clip"

    @property
    def effort(self) -> Effort:
        return {Suite.SMOKE: _QUICK, Suite.FULL: Effort(), Suite.CLIP: _CLIP}[self]

    @property
    def methods(self) -> Methods:
        """What its models can be given to."""
        return CLIPS if self is Suite.CLIP else CLASSIFIERS


@dataclass(slots=True)
class Finished:
    """What a run came to.

    Attributes:
        written: the files for people.
        unsupported: methods that have no meaning for a network, and why.
        failures: what could not be measured, and why; running it again tries again.
    """

    written: list[Path] = field(default_factory=list)
    unsupported: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def cells_of(suite: Suite, data: str | None) -> tuple[Cell, ...]:
    """The cells of a suite, on one data set only if one is given.

    Raises:
        InvalidInputError: there are none.
    """
    if data not in (None, *PARTS):
        raise InvalidInputError("bench_no_cells", f"There is no data set {data}; there are {', '.join(PARTS)}.")
    if suite is Suite.SMOKE:
        return tuple(dataclasses.replace(cell, data=data or cell.data) for cell in SMOKE)
    all_cells = CLIP_CELLS if suite is Suite.CLIP else CELLS
    cells = tuple(cell for cell in all_cells if data in (None, cell.data))
    if not cells:
        raise InvalidInputError("bench_no_cells", f"The suite {suite} has no cells with the data set {data}.")
    return cells


def attacked(cells: Iterable[Cell], seeds: Iterable[int]) -> list[Subject]:
    """The backdoored models; seeds change fastest, so that clean models are not waited for."""
    return [
        Subject(cell.data, cell.model, cell.attack, seed, cell.recipe(seed), cell.clean(seed))
        for cell in cells
        for seed in seeds
    ]


def clean(cells: Iterable[Cell], seeds: Iterable[int]) -> list[Subject]:
    """The clean models of the same kinds, each once."""
    kinds = {(cell.data, cell.model, cell.quick): cell for cell in cells}
    found = [dataclasses.replace(cell, attack=CLEAN) for cell in kinds.values()]
    return [
        Subject(cell.data, cell.model, CLEAN, seed, cell.clean(seed), cell.clean(seed))
        for cell in found
        for seed in seeds
    ]


def beside(cells: Sequence[Cell], seeds: Sequence[int]) -> list[Subject]:
    """Clean models to judge a detector on beside `attacked`: as many of a kind as it has attacks, up to a limit.

    Args:
        cells: of the attacked models.
        seeds: consecutive; the clean ones begin with the same and go further.
    """
    found: list[Subject] = []
    for kind, attacks in Counter((cell.data, cell.model, cell.quick) for cell in cells).items():
        count = len(seeds) * min(attacks, _MOST_CLEAN)
        one = next(cell for cell in cells if (cell.data, cell.model, cell.quick) == kind)
        found += clean([one], range(seeds[0], seeds[0] + count))
    return found


@dataclass(frozen=True, slots=True)
class Run:
    """What is common to all runs.

    Attributes:
        conditions: kept beside the rows.
        out: folder of rows, tables and plots.
        place: of models and data.
        workers: processes.
        on_progress: told of every row.
    """

    conditions: Conditions
    out: Path
    place: Place
    workers: int
    on_progress: OnProgress


def run_purify(subjects: Sequence[Subject], methods: Sequence[str], run: Run) -> Finished:
    """purify.jsonl, purify.md and plots; rows that are there already are kept.

    The method "none" comes first for every model: it also measures the clean one. Where the backdoor did not embed,
    no other method is run.

    Raises:
        InvalidInputError: the folder has rows of other conditions.
    """
    run.conditions.keep(run.out / "purify.conditions.json")
    rows = RowFile(run.out / "purify.jsonl", PurifyRow)
    others = [method for method in methods if method != NONE]

    def missing(subject: Subject) -> list[Task]:
        before = rows.get((*subject.key, NONE))
        if before is None:
            return [Task(f"{subject.name} {NONE}", purify_one, (subject, NONE, run.conditions, None))]
        if not embedded(before):
            return []
        return [
            Task(f"{subject.name} {method}", purify_one, (subject, method, run.conditions, before))
            for method in others
            if rows.get((*subject.key, method)) is None
        ]

    def follow(outcome: Outcome) -> list[Task]:
        subject, method = outcome.task.arguments[:2]
        return missing(subject) if method == NONE else []

    def settled() -> int:
        first = [rows.get((*subject.key, NONE)) for subject in subjects]
        skipped = sum(len(others) for row in first if row is not None and not embedded(row))
        return skipped + sum(rows.get((*s.key, method)) is not None for s in subjects for method in (NONE, *others))

    finished = Finished()
    total = len(subjects) * (1 + len(others))
    _work([task for subject in subjects for task in missing(subject)], run, rows, follow, settled, total, finished)
    counted = list(rows)
    _write(run.out / "purify.md", purify_table(counted), finished)
    if plots.available() and any(embedded(row) for row in counted):
        finished.written += plots.plot_purify(counted, run.out)
    return finished


def run_detect(subjects: Sequence[Subject], methods: Sequence[str], run: Run) -> Finished:
    """detect.jsonl, detect.md and plots; see `run_purify`."""
    run.conditions.keep(run.out / "detect.conditions.json")
    rows = RowFile(run.out / "detect.jsonl", DetectRow)
    wanted = [(subject, method) for subject in subjects for method in methods]

    def is_there(subject: Subject, method: str) -> bool:
        return rows.get((*subject.key, method)) is not None

    tasks = [
        Task(f"{subject.name} {method}", detect_one, (subject, method, run.conditions))
        for subject, method in wanted
        if not is_there(subject, method)
    ]
    finished = Finished()
    _work(tasks, run, rows, lambda _: [], lambda: sum(is_there(*pair) for pair in wanted), len(wanted), finished)
    counted = list(rows)
    _write(run.out / "detect.md", detect_table(counted), finished)
    if plots.available() and counted:
        finished.written += plots.plot_detect(counted, run.out)
    return finished


def run_zoo(subjects: Sequence[Subject], run: Run) -> Finished:
    """Train what is missing, the clean models too; zoo.md says what embedded."""
    recipes = {recipe.name: recipe for subject in subjects for recipe in (subject.clean, subject.suspect)}
    zoo = run.place.open()
    records = {name: zoo.record(recipe) for name, recipe in recipes.items() if zoo.has(recipe)}
    finished = Finished()
    run.on_progress(len(records), len(recipes), "")
    tasks = [Task(name, train, (recipe,)) for name, recipe in recipes.items() if name not in records]
    for outcome in run_tasks(tasks, run.place, workers=run.workers):
        if outcome.error:
            finished.failures.append(f"{outcome.task.name}: {outcome.error}")
        else:
            records[outcome.task.name] = outcome.value
        run.on_progress(len(records), len(recipes), outcome.task.name)
    run.out.mkdir(parents=True, exist_ok=True)
    _write(run.out / "zoo.md", zoo_table(records), finished)
    return finished


def _work(
    tasks: Sequence[Task],
    run: Run,
    rows: RowFile[Row],
    follow: Callable[[Outcome], list[Task]],
    settled: Callable[[], int],
    total: int,
    finished: Finished,
) -> None:
    """Perform tasks and what follows them; every row is on the disk before anything else is done about it."""

    def keep(outcome: Outcome) -> list[Task]:
        if isinstance(outcome.value, Unsupported):
            finished.unsupported.append(f"{outcome.task.name}: {outcome.value.reason}")
            return []
        rows.append(outcome.value)
        return follow(outcome)

    run.on_progress(settled(), total, "")
    for outcome in run_tasks(tasks, run.place, workers=run.workers, follow=keep):
        if outcome.error:
            finished.failures.append(f"{outcome.task.name}: {outcome.error}")
        run.on_progress(settled() + len(finished.unsupported), total, outcome.task.name)


def _write(path: Path, text: str, finished: Finished) -> None:
    path.write_text(text)
    finished.written.append(path)
