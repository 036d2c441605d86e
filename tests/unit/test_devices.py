import os
import threading
from collections.abc import Callable

import pytest
import torch
from torch import nn

from core import devices


def test_threads_are_bounded_by_what_the_process_may_use() -> None:
    before = torch.get_num_threads()
    try:
        assert devices.set_threads(1) == 1
        assert torch.get_num_threads() == 1
        assert devices.set_threads(0) == devices.available_cores() <= (os.cpu_count() or 1)
    finally:
        torch.set_num_threads(before)


def test_fast_inference_gives_the_layout_back() -> None:
    module = nn.Conv2d(4, 4, 3)
    with devices.fast_inference(module, torch.device("cpu")):
        assert module.weight.is_contiguous(memory_format=torch.channels_last)
    assert module.weight.is_contiguous()
    module.to(memory_format=torch.channels_last)
    with devices.fast_inference(module, torch.device("cpu")):
        pass
    assert module.weight.is_contiguous(memory_format=torch.channels_last)


def test_reproducible_restores_the_earlier_setting() -> None:
    assert not torch.are_deterministic_algorithms_enabled()
    with devices.reproducible():
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_device_is_chosen_and_named() -> None:
    device = devices.choose_device()
    assert devices.describe(device)
    assert devices.bank_size(torch.device("cpu")) == 1


SMALL, LARGE = nn.Linear(4, 4), nn.Linear(3000, 3000)


def test_tasks_side_by_side_keep_their_order_and_their_precision() -> None:
    before = torch.get_num_threads()
    together = threading.Barrier(2, timeout=30)

    def task(number: int) -> Callable[[], tuple[int, bool, int]]:
        def run() -> tuple[int, bool, int]:
            together.wait()  # breaks unless two run at a time
            return number, torch.is_autocast_enabled("cpu"), torch.get_num_threads()

        return run

    for enabled in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found = devices.side_by_side(SMALL, 2, map(task, range(4)))
        assert found == [(number, enabled, 1) for number in range(4)]
    assert torch.get_num_threads() == before


def test_tasks_of_a_large_network_run_in_turn() -> None:
    ran = devices.side_by_side(LARGE, 2, [threading.get_ident] * 3)
    assert ran == [threading.get_ident()] * 3


def test_when_a_task_fails_those_that_have_not_begun_are_dropped() -> None:
    begun: list[int] = []

    def fail() -> None:
        begun.append(1)
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        devices.side_by_side(SMALL, 2, [fail] * 200)
    assert len(begun) < 200


def test_small_networks_get_one_thread() -> None:
    before = torch.get_num_threads()
    try:
        devices.suit_threads(LARGE, 2)
        assert torch.get_num_threads() == 2
        devices.suit_threads(SMALL, 2)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
