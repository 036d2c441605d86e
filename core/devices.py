"""Where and how the engine computes: the only module that names an accelerator."""

import contextlib
import os
from collections.abc import Iterator

import torch


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


@contextlib.contextmanager
def reproducible() -> Iterator[None]:
    """Deterministic kernels where they exist, for the duration; the earlier setting returns afterwards."""
    enabled, warn = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn)
        torch.backends.cudnn.benchmark = benchmark
