"""Where and how the engine computes: the only module that names an accelerator."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

T = TypeVar("T")

#: Parameters. Of larger networks several batches at a time would also take much memory.
_SMALL = 5_000_000


def choose_device() -> torch.device:
    """The accelerator if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe(device: torch.device) -> str:
    """A name for the report."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def set_threads(threads: int) -> int:
    """Use `threads` CPU threads (0: all cores this process may use); returns how many that is."""
    count = threads if threads > 0 else available_cores()
    torch.set_num_threads(count)
    return count


def available_cores() -> int:
    """Cores this process may use; respects CPU affinity where the system knows it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def synchronize(device: torch.device) -> None:
    """Wait for queued work, for timing."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def bank_size(device: torch.device) -> int:
    """How many hypotheses share one forward pass.

    One on a CPU, where a larger batch only leaves the cache; many on an accelerator, where launches dominate.
    """
    return 16 if device.type == "cuda" else 1


def suit_threads(module: nn.Module, threads: int) -> int:
    """Compute each batch of `module` on a CPU with `threads` threads, or with one if it is small; returns how many.

    A small network gives a core too little at a time to share it: on two idle cores an inversion of the examples takes
    1.3 and 2.3 times as long with two threads for each batch as with one (benchmarks/threads.py).
    """
    return set_threads(1 if _is_small(module) else threads)


def side_by_side(module: nn.Module, threads: int, tasks: Iterable[Callable[[], T]]) -> list[T]:
    """What the tasks return, in their order; of a small network on a CPU `threads` at a time, each with one core.

    Args:
        module: the network they have in common, which none of them changes.
        tasks: independent of each other; iterated by the caller's thread. What one raises is raised here, and those
            that have not begun are dropped.
    """
    device = next(module.parameters()).device
    if threads == 1 or device.type != "cpu" or not _is_small(module):
        return [task() for task in tasks]
    half, before = torch.is_autocast_enabled(device.type), torch.get_num_threads()

    def run(task: Callable[[], T]) -> T:
        with torch.autocast(device.type, torch.bfloat16, enabled=half):  # a thread begins without
            return task()

    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(threads)
    try:
        futures = [pool.submit(run, task) for task in tasks]
        return [future.result() for future in futures]
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _is_small(module: nn.Module) -> bool:
    return sum(parameter.numel() for parameter in module.parameters()) <= _SMALL


@contextlib.contextmanager
def fast_inference(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Lay out a frozen network for speed, and compute in bfloat16 where the hardware has it, for the duration.

    Measured for input gradients of small ResNets on one CPU thread: channels last 1.2 to 1.9 times as fast, with
    bfloat16 1.7 to 3 times. For searching only: what is published is computed in float32.
    """
    weights = [parameter for parameter in module.parameters() if parameter.dim() == 4]
    before = all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    module.to(memory_format=torch.channels_last)
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
            yield
    finally:
        if not before:
            module.to(memory_format=torch.contiguous_format)


def has_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return _cpu_has_bfloat16()


@cache
def _cpu_has_bfloat16() -> bool:
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic kernels where they exist, for the duration; the earlier setting returns afterwards."""
    enabled, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    memory: Any = torch.utils.deterministic  # its one attribute is set up at run time
    filling = memory.fill_uninitialized_memory
    # Filling fresh memory would cost time in every layer and only serves to find kernels that read it unwritten.
    memory.fill_uninitialized_memory = False
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn)
        torch.backends.cudnn.benchmark = benchmark
        memory.fill_uninitialized_memory = filling
