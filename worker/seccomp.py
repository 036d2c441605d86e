"""A filter of system calls: no network, no other program, no other process, nothing exotic.

Written as a BPF program by hand, because that needs no library: a few loads and comparisons per call.
"""

import ctypes
import errno
import platform
import struct
from typing import NamedTuple

_PR_SET_NO_NEW_PRIVS = 38
_SET_MODE_FILTER, _GET_ACTION_AVAIL = 1, 2
_TSYNC = 1  # all threads of the process
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data
_CLONE_THREAD = 0x00010000
_X32 = 0x40000000  # a second set of numbers on x86-64

_NAMES = (
    "socket", "socketpair", "connect", "accept", "accept4", "bind", "listen", "sendto", "sendmsg", "sendmmsg",
    "recvfrom", "recvmsg", "recvmmsg", "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev",
    "mount", "umount2", "pivot_root", "chroot", "unshare", "setns", "bpf", "perf_event_open", "userfaultfd", "keyctl",
    "add_key", "request_key", "init_module", "finit_module", "delete_module", "kexec_load", "reboot",
    "open_by_handle_at", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
)  # fmt: skip
_X86_64 = (
    41, 53, 42, 43, 288, 49, 50, 44, 46, 307, 45, 47, 299, 59, 322, 101, 310, 311, 165, 166, 155, 161, 272, 308, 321,
    298, 323, 250, 248, 249, 175, 313, 176, 246, 169, 304, 200, 129, 297,
)  # fmt: skip
_AARCH64 = (
    198, 199, 203, 202, 242, 200, 201, 206, 211, 269, 207, 212, 243, 221, 281, 117, 270, 271, 40, 39, 41, 51, 97, 268,
    280, 241, 282, 219, 217, 218, 105, 273, 106, 104, 142, 265, 130, 138, 240,
)  # fmt: skip
#: Newer calls have one number everywhere: pidfd_send_signal, io_uring (3), open_tree, move_mount, fsopen, fsmount,
#: pidfd_open, pidfd_getfd, mount_setattr.
_COMMON = (424, 425, 426, 427, 428, 429, 430, 432, 434, 438, 442)
_CLONE3 = 435


class _Machine(NamedTuple):
    """One instruction set: its audit number, the seccomp and clone calls, and what else is denied."""

    audit: int
    seccomp: int
    clone: int
    kill: int
    denied: tuple[int, ...]


_MACHINES = {
    "x86_64": _Machine(0xC000003E, 317, 56, 62, (*_X86_64, *_COMMON, 57, 58)),  # and fork, vfork
    "aarch64": _Machine(0xC00000B7, 277, 220, 129, (*_AARCH64, *_COMMON)),
}
assert len(_NAMES) == len(_X86_64) == len(_AARCH64)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def unavailable() -> str:
    """Why there can be no filter here; empty if there can."""
    machine = _MACHINES.get(platform.machine())
    if platform.system() != "Linux" or machine is None:
        return f"no filter for {platform.system()} on {platform.machine()}"
    action = ctypes.c_uint32(_RET_ERRNO)
    if _libc().syscall(machine.seccomp, _GET_ACTION_AVAIL, 0, ctypes.byref(action)) != 0:
        return "the kernel has no seccomp filters, or this container forbids them"
    return ""


def forbid_new_privileges() -> None:
    """No set-uid program can help this process or its children any more. Raises OSError."""
    if _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _error("prctl")


def apply() -> None:
    """Denies the calls above (EPERM) to this process from now on, in all its threads.

    Needs `forbid_new_privileges`.

    Raises:
        OSError: the kernel refused the filter, or there is none for this machine.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, "no filter for this machine")
    code = _program(machine)
    program = _Program(len(code) // 8, code)
    if _libc().syscall(machine.seccomp, _SET_MODE_FILTER, _TSYNC, ctypes.byref(program)) != 0:
        raise _error("seccomp")


def _program(machine: _Machine) -> bytes:
    deny = _RET_ERRNO | errno.EPERM
    steps = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, deny),
        (_LOAD, 0, 0, _NUMBER),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, deny),
        # The C library asks for clone3 first and goes back to clone, whose flags can be looked at.
        (_EQUAL, 0, 1, _CLONE3),
        (_RETURN, 0, 0, _RET_ERRNO | errno.ENOSYS),
        # clone: threads only.
        (_EQUAL, 0, 4, machine.clone),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_ANY_BIT, 0, 1, _CLONE_THREAD),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, deny),
        # kill: the own group only, which is 0.
        (_EQUAL, 0, 4, machine.kill),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 1, 0),
        (_RETURN, 0, 0, _RET_ALLOW),
        (_RETURN, 0, 0, deny),
    ]
    for number in machine.denied:
        steps += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, deny)]
    steps.append((_RETURN, 0, 0, _RET_ALLOW))
    return b"".join(struct.pack("<HBBI", *step) for step in steps)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error(what: str) -> OSError:
    return OSError(ctypes.get_errno(), f"{what} was refused")
