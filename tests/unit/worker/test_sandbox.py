"""The sandbox of the parsing process, tried from inside: what is closed stays closed, what is needed works."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.domain import SandboxMode
from core.errors import UnavailableError
from tests.support.children import job_spec
from worker import landlock, sandbox, seccomp
from worker.children import child_environment, real_children, run_child

ROOT = Path(__file__).parents[3]
FILTERED = pytest.mark.skipif(bool(seccomp.unavailable()), reason=seccomp.unavailable() or "seccomp is there")
LANDLOCKED = pytest.mark.skipif(landlock.version() == 0, reason="the kernel has no landlock")


def confined(folder: Path, code: str, mode: str = "auto", before: str = "") -> "subprocess.CompletedProcess[str]":
    """Runs `code` in a process that has closed itself in; `job` is its folder, `readable` a file it may read."""
    (folder / "job").mkdir()
    (folder / "input").write_text("input")
    (folder / "secret").write_text("secret")
    frame = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import ctypes, os, signal, socket, subprocess, threading\n"
        "from pathlib import Path\n"
        "from core.domain import SandboxMode\n"
        "from worker import sandbox\n"
        f"folder = Path({str(folder)!r}); job = folder / 'job'; readable = folder / 'input'\n"
        f"{before}\n"
        f"sandbox.confine(SandboxMode({mode!r}), input_bytes=5, readable=[readable], writable=[job])\n"
        f"{code}"
    )
    return subprocess.run([sys.executable, "-I", "-c", frame], capture_output=True, text=True, check=False, cwd=folder)


@FILTERED
@pytest.mark.parametrize(
    "code",
    [
        "socket.socket()",
        "socket.socket(socket.AF_UNIX)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socketpair()",
        "subprocess.run(['/bin/true'])",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.fork()",
        "os.kill(os.getppid(), signal.SIGUSR1)",
        "os.kill(os.getppid(), 0)",
    ],
)
def test_no_network_no_program_no_other_process(tmp_path: Path, code: str) -> None:
    end = confined(tmp_path, code)
    assert end.returncode == 1
    assert "PermissionError" in end.stderr, end.stderr


@FILTERED
@pytest.mark.parametrize(("call", "arguments"), [(425, "1, None"), (101, "0, 0"), (321, "0, None, 0"), (272, "0")])
def test_exotic_calls_are_denied(tmp_path: Path, call: int, arguments: str) -> None:
    code = f"libc = ctypes.CDLL(None, use_errno=True); print(libc.syscall({call}, {arguments}), ctypes.get_errno())"
    assert confined(tmp_path, code).stdout.split() == ["-1", "1"]


@FILTERED
def test_every_thread_is_filtered_and_threads_still_start(tmp_path: Path) -> None:
    before = (
        "go, result = threading.Event(), []\n"
        "def old():\n"
        "    go.wait()\n"
        "    try: socket.socket()\n"
        "    except PermissionError: result.append('denied')\n"
        "thread = threading.Thread(target=old); thread.start()"
    )
    code = "go.set(); thread.join()\nnew = threading.Thread(target=old); new.start(); new.join(); print(*result)"
    assert confined(tmp_path, code, before=before).stdout.split() == ["denied", "denied"]


@LANDLOCKED
@pytest.mark.parametrize(
    "code",
    [
        "readable.write_text('changed')",
        "os.truncate(readable, 0)",
        "(folder / 'new').write_text('x')",
        "(folder / 'secret').read_text()",
        "list(folder.iterdir())",
        "readable.unlink()",
        "readable.rename(job / 'stolen')",
        "os.link(folder / 'secret', job / 'link')",
        "(folder / 'new').mkdir()",
        "Path('/etc/hostname').read_text()",
        "Path('/tmp/assay-sandbox-test').write_text('x')",
    ],
)
def test_nothing_of_the_host_is_read_or_written(tmp_path: Path, code: str) -> None:
    end = confined(tmp_path, code)
    assert end.returncode == 1
    assert "PermissionError" in end.stderr or "Invalid cross-device link" in end.stderr, end.stderr
    assert (tmp_path / "input").read_text() == "input"


def test_inputs_are_read_and_results_written(tmp_path: Path) -> None:
    end = confined(tmp_path, "(job / 'a').mkdir(); (job / 'a' / 'b').write_text(readable.read_text()); import numpy")
    assert (end.returncode, end.stderr) == (0, "")
    assert (tmp_path / "job" / "a" / "b").read_text() == "input"


def test_processes_are_bounded(tmp_path: Path) -> None:
    end = confined(tmp_path, "import resource; print(*resource.getrlimit(resource.RLIMIT_NPROC))")
    soft, hard = map(int, end.stdout.split())
    assert soft == hard
    assert 0 < soft < 1_000_000


def test_the_probe_agrees_with_what_happens(tmp_path: Path) -> None:
    lacking = sandbox.missing(sandbox.probe())
    end = confined(tmp_path, "print('closed in')", mode="required")
    assert ("closed in" in end.stdout) is (lacking == "")


def test_required_fails_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = "from worker import seccomp\ndef gone(): raise OSError(38, 'not here')\nseccomp.apply = gone"
    assert confined(tmp_path, "print('went on')", before=missing).stdout == "went on\n"
    (tmp_path / "again").mkdir()
    end = confined(tmp_path / "again", "print('went on')", mode="required", before=missing)
    assert end.stdout == ""
    assert "sandbox_unavailable" in end.stderr

    monkeypatch.setattr(seccomp, "unavailable", lambda: "not here")
    sandbox.require(SandboxMode.AUTO)
    with pytest.raises(UnavailableError, match="not here") as caught:
        sandbox.require(SandboxMode.REQUIRED)
    assert caught.value.code == "sandbox_unavailable"


def test_the_real_parsing_child_is_closed_in_and_its_refusal_is_clean(tmp_path: Path) -> None:
    """With the whole sandbox required, the child works where it is there, and fails with its code where it is not."""
    (tmp_path / "model.pth").write_bytes(b"no model")
    job = tmp_path / "job"
    (job / "intake").mkdir(parents=True)
    (job / "spec.json").write_text(job_spec(tmp_path / "model.pth").model_dump_json())
    end = run_child(
        real_children(SandboxMode.REQUIRED).parse,
        job,
        environment=child_environment(job, 1, compute=False),
        on_event=lambda _: None,
        halt=lambda: None,
    )
    assert end.result is not None
    assert end.result.error is not None
    complete = not sandbox.missing(sandbox.probe())
    assert end.result.error.code == ("unsupported_format" if complete else "sandbox_unavailable")
    assert not any((job / "cwd").iterdir())


def test_no_child_inherits_a_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASSAY_DATABASE_URL", "ASSAY_SECRET_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "https_proxy"):
        monkeypatch.setenv(name, "canary")
    assert "canary" not in str(child_environment(tmp_path, 1, compute=False).values())
    assert os.environ["HF_TOKEN"] == "canary"
