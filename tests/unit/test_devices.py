import os

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
