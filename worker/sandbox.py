"""What keeps the parsing process in. Each layer is the kernel's; together they leave it memory, processor time, its
inputs to read and its folder to write.

Reading and writing files, networks and other programs are closed for good: even the process itself cannot open them
again.
"""

import contextlib
import ctypes
import os
import resource
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from core.domain import SandboxMode
from core.errors import UnavailableError
from worker import landlock, seccomp

CPU_LIMIT_S = 1_800
OPEN_FILES_LIMIT = 512
#: Processes and threads beside those the user has already; only the user's total can be bounded.
MORE_PROCESSES = 1_024
SPARE_BYTES = 8 * 2**30

_NEW_USER_AND_NETWORK = 0x10000000 | 0x40000000
#: What an interpreter and its libraries read, beside its own folders.
_SYSTEM = (
    "/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", "/nix/store", "/proc", "/sys/devices", "/sys/fs/cgroup",
    "/dev/null", "/dev/zero", "/dev/urandom", "/etc/ld.so.cache", "/etc/localtime", "/etc/passwd", "/etc/os-release",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing that confines the parsing process.

    Attributes:
        name: what it is about.
        active: whether this host has it.
        detail: how, or why not.
        essential: without it nothing is parsed where the sandbox is required.
    """

    name: str
    active: bool
    detail: str
    essential: bool = True


def probe() -> tuple[Layer, ...]:
    """The layers that a parsing process gets on this host; nothing is changed."""
    no_filter, landlock_version = seccomp.unavailable(), landlock.version()
    limits = sys.platform == "linux"
    return (
        Layer("process", True, "uploads are parsed in a process of their own, without secrets"),
        Layer("limits", limits, "memory, time, files, processes" if limits else "memory cannot be bounded here"),
        Layer(
            "system calls",
            not no_filter,
            no_filter or "seccomp: no network, no other program, no other process",
        ),
        Layer(
            "files",
            landlock_version > 0,
            f"landlock {landlock_version}: inputs read-only, nothing else of the host"
            if landlock_version > 0
            else "the kernel has no landlock: the process may write wherever its user may",
        ),
        Layer(
            "user",
            os.geteuid() != 0,
            "not root" if os.geteuid() != 0 else "running as root: use an account of its own",
            essential=False,
        ),
    )


def missing(layers: Iterable[Layer]) -> str:
    """The essential layers that are not there, in words; empty if all are."""
    return "; ".join(f"{layer.name}: {layer.detail}" for layer in layers if layer.essential and not layer.active)


def require(mode: SandboxMode) -> None:
    """Raises UnavailableError ("sandbox_unavailable") if the mode asks for layers that this host has not."""
    lacking = missing(probe())
    if mode is SandboxMode.REQUIRED and lacking:
        raise _unavailable(lacking)


def confine(mode: SandboxMode, *, input_bytes: int, readable: Iterable[Path], writable: Iterable[Path]) -> None:
    """Closes this process in. Call it before any thread is started and before any uploaded byte is read.

    Args:
        mode: whether to go on when a layer cannot be had.
        input_bytes: size of what will be read; bounds are in proportion to it.
        readable: inputs.
        writable: where results go.

    Raises:
        UnavailableError: ("sandbox_unavailable") a layer is missing and `mode` requires it.
    """
    problems: list[str] = []
    limit_resources(input_bytes)
    for name, close in (
        ("privileges", seccomp.forbid_new_privileges),
        ("files", lambda: landlock.restrict([*_interpreter(), *readable], [*writable, Path("/dev/null")])),
        ("system calls", seccomp.apply),
    ):
        try:
            close()
        except (OSError, AttributeError) as error:  # no such function in other kernels' C libraries
            problems.append(f"{name}: {error}")
            if name == "system calls":
                _leave_network()
    if problems and mode is SandboxMode.REQUIRED:
        raise _unavailable("; ".join(problems))


def limit_resources(input_bytes: int) -> None:
    """Processor time, file size, memory, open files, processes and core dumps, in proportion to the input.

    Memory is bounded as writable private memory (RLIMIT_DATA), not address space: the libraries of torch alone
    map many gigabytes of address space.
    """
    room = SPARE_BYTES + 8 * input_bytes
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_FSIZE, room),
        (resource.RLIMIT_DATA, room),
        (resource.RLIMIT_NOFILE, OPEN_FILES_LIMIT),
        (resource.RLIMIT_NPROC, _tasks_of_user() + MORE_PROCESSES),
    ):
        _, hard = resource.getrlimit(kind)
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (value, value))


def _interpreter() -> list[Path]:
    found = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, *_SYSTEM]
    return [Path(path) for path in found if path]


def _tasks_of_user() -> int:
    """Processes and threads of this user, as far as they can be seen."""
    total = 0
    with contextlib.suppress(OSError):
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if entry.stat().st_uid == os.geteuid():
                        total += len(os.listdir(f"{entry.path}/task"))
    return total


def _leave_network() -> None:
    """Where calls cannot be filtered: a namespace without a network, if the kernel gives one away."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER_AND_NETWORK)


def _unavailable(what: str) -> UnavailableError:
    return UnavailableError(
        "sandbox_unavailable",
        f"The sandbox is required, but this host does not give all of it: {what}.",
        "`assay doctor` lists the layers; run on a newer kernel, or set ASSAY_SANDBOX=auto and accept what is missing.",
    )
