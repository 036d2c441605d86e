"""Processes: their own memory, their failures, what follows what."""

import os
import signal
from pathlib import Path

import pytest
import torch

from core.attacks.zoo import Zoo
from core.bench.isolation import peak_rss_bytes, run_isolated
from core.bench.workers import Outcome, Place, Task, run_tasks
from core.errors import EngineError, InvalidInputError


def _allocate(megabytes: int) -> int:
    kept = bytearray(b"x") * (megabytes << 20)
    return peak_rss_bytes() if kept else 0


def _fail() -> None:
    raise ValueError("as it must")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _double(_: Zoo, number: int) -> int:
    if number < 0:
        raise ValueError("negative")
    return 2 * number


def _exit(_: Zoo) -> None:
    os._exit(3)


def test_each_child_has_a_peak_of_its_own() -> None:
    large, small = run_isolated(_allocate, 300), run_isolated(_allocate, 1)
    assert large - small > 250 << 20


def test_failures_of_a_child_are_told() -> None:
    with pytest.raises(EngineError, match="ValueError: as it must"):
        run_isolated(_fail)
    with pytest.raises(EngineError, match="exit code -9"):
        run_isolated(_die)


def _place(folder: Path) -> Place:
    return Place(folder / "zoo", None, folder / "fashion", folder / "cache")


def test_tasks_what_follows_them_their_errors_and_the_death_of_a_worker(tmp_path: Path) -> None:
    def follow(outcome: Outcome) -> list[Task]:
        return [Task("after", _double, (10 + outcome.value,))] if outcome.task.name == "first" else []

    tasks = [
        Task("first", _double, (1,)),
        Task("bad", _double, (-1,)),
        Task("last", _double, (3,)),
        Task("exit", _exit, ()),
    ]
    outcomes: list[Outcome] = []
    with pytest.raises(EngineError) as caught:
        outcomes.extend(run_tasks(tasks, _place(tmp_path), workers=1, follow=follow))
    assert caught.value.code == "bench_worker_died"
    assert [(o.task.name, o.value) for o in outcomes] == [("first", 2), ("after", 24), ("bad", None), ("last", 6)]
    assert [o.error for o in outcomes if o.error] == ["ValueError: negative"]


def _product() -> int:
    return int((torch.ones(512, 512) @ torch.ones(512, 512)).sum())


def _with_two_threads() -> tuple[int, int]:
    torch.set_num_threads(2)
    return torch.get_num_threads(), _product()


def _fork_after_a_product(zoo: Zoo) -> tuple[int, int]:
    _product()  # starts the threads of the worker, if it may have any
    return run_isolated(_with_two_threads)


@pytest.mark.timeout(60)
def test_forks_of_a_worker_may_use_more_threads_than_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    [outcome] = run_tasks([Task("forking", _fork_after_a_product, ())], _place(tmp_path), workers=1)
    assert outcome.value == (2, 512**3)


def test_a_missing_data_set_is_named_with_what_to_do(tmp_path: Path) -> None:
    for name in ("cifar10", "fashion-mnist"):
        with pytest.raises(InvalidInputError) as caught:
            _place(tmp_path).require([name])
        assert caught.value.code == "dataset_missing"
        assert "ASSAY_DATASETS_DIR" in caught.value.hint
    _place(tmp_path).require(["procedural"])
