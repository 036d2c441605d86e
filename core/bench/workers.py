"""Tasks over worker processes. Each holds the data sets once and has one thread only, so that it can fork."""

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from core import devices
from core.attacks.clip.pairs import PairDatasets
from core.attacks.clip.zoo import ClipZoo
from core.attacks.datasets import Datasets
from core.attacks.zoo import Zoo
from core.bench.isolation import die_with_parent
from core.errors import AssayError, EngineError, InvalidInputError


@dataclass(frozen=True, slots=True)
class Place:
    """Where models and data are.

    Attributes:
        zoo: folder of trained models.
        datasets: holds CIFAR-10; None if no such folder is known.
        fashion, cache: as in core.attacks.datasets.Datasets.
        clip: the models are those of core.attacks.clip.
    """

    zoo: Path
    datasets: Path | None
    fashion: Path
    cache: Path
    clip: bool = False

    def open(self) -> Zoo:
        """The zoo there, with its data sets."""
        folders = (self.datasets or self.cache, self.fashion, self.cache)
        return ClipZoo(self.zoo, PairDatasets(*folders)) if self.clip else Zoo(self.zoo, Datasets(*folders))

    def require(self, names: Iterable[str]) -> None:
        """Raises InvalidInputError if a data set of these is not there; better now than in the middle."""
        folders = [self.cache] if self.datasets is None else [self.cache, self.datasets]
        cifar10 = (
            "cifar10_jpeg.tar",
            "cifar-10-batches-py",
            "cifar10_jpeg.npz",
            "cifar10.npz",
        )  # the last two: decoded
        there = {
            "cifar10": any((folder / name).exists() for folder in folders for name in cifar10),
            "fashion-mnist": self.fashion.is_dir(),
        }
        wanted = {"cifar10": f"{cifar10[0]} or {cifar10[1]}", "fashion-mnist": "fashion-mnist"}
        for name in sorted(names):
            if not there.get(name, True):
                raise InvalidInputError(
                    "dataset_missing",
                    f"The data set {name} is not there.",
                    f"Set ASSAY_DATASETS_DIR to a folder that holds {wanted[name]}.",
                )


@dataclass(frozen=True, slots=True)
class Task:
    """`function(zoo, *arguments)`, to be run by a worker.

    Attributes:
        name: for people.
        function: of a module, as are the types of the arguments and of what it returns.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A task's value, or what went wrong."""

    task: Task
    value: Any
    error: str


#: What is to be done once a task has succeeded.
Follow = Callable[[Outcome], Sequence[Task]]


def run_tasks(tasks: Iterable[Task], place: Place, *, workers: int, follow: Follow = lambda _: ()) -> Iterator[Outcome]:
    """Outcomes as they come. What follows a task is done before the tasks that wait.

    Args:
        tasks: in the order of their start.
        place: opened by each worker.
        workers: how many processes.
        follow: called with each success.

    Raises:
        EngineError: a worker died.
    """
    queue = deque(tasks)
    if not queue:
        return
    context = multiprocessing.get_context("spawn")
    processes: list[SpawnProcess] = []
    idle: list[Connection] = []
    busy: dict[Connection, Task] = {}
    try:
        for _ in range(max(1, min(workers, len(queue)))):
            ours, theirs = context.Pipe()
            processes.append(context.Process(target=_serve, args=(theirs, place)))
            processes[-1].start()
            theirs.close()
            idle.append(ours)
        while queue or busy:
            while queue and idle:
                connection, task = idle.pop(), queue.popleft()
                connection.send(task)
                busy[connection] = task
            for ready in wait(list(busy)):
                assert isinstance(ready, Connection)
                task = busy.pop(ready)
                outcome = Outcome(task, *_received(ready))
                idle.append(ready)
                if not outcome.error:
                    queue.extendleft(reversed(follow(outcome)))
                yield outcome
        for connection in idle:
            connection.close()
    finally:
        for connection in busy:  # left early: whatever they still do is of no use
            connection.close()
        for process in processes:
            if busy:
                process.terminate()
            process.join()


def _received(connection: Connection) -> tuple[Any, str]:
    try:
        value, error = connection.recv()
    except (EOFError, ConnectionResetError):
        raise EngineError(
            "bench_worker_died", "A worker process ended unexpectedly.", "Run it again to go on."
        ) from None
    return value, error


def _serve(connection: Connection, place: Place) -> None:
    die_with_parent()
    devices.set_threads(1)  # a fork of a process with more would wait for them for ever
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is for the main process, which ends this one
    zoo = place.open()
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            answer = (task.function(zoo, *task.arguments), "")
        except (AssayError, ValueError, RuntimeError) as error:  # of one task; the others can go on
            answer = (None, f"{type(error).__name__}: {error}")
        connection.send(answer)
