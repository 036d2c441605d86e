"""The frame around both children, in real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.children import job_spec
from worker.children import ChildExit, Halt, child_environment, run_child

ROOT = Path(__file__).parents[3]
FRAME = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
import os, time
from worker.child_common import run_in_child
from worker.protocol import JobSpec
from core.domain import Stage
from core.errors import UnsafeError, StorageFullError
def work(job_dir, spec, ctx):
    BODY
run_in_child(work, JobSpec)
"""


def command(body: str) -> tuple[str, ...]:
    return (sys.executable, "-I", "-c", FRAME.replace("BODY", body))


def run(body: str, job: Path, **options: object) -> tuple[ChildExit, list[object]]:
    (job / "spec.json").write_text(job_spec(job / "model.pth").model_dump_json())
    events: list[object] = []
    arguments = {"halt": lambda: None, **options}
    environment = child_environment(job, 1, compute=True)
    return run_child(command(body), job, environment=environment, on_event=events.append, **arguments), events


def test_good_work_is_ok_and_prints_do_not_disturb_the_events(tmp_path: Path) -> None:
    end, events = run(
        "print('hello'); os.write(1, b'raw'); ctx.enter(Stage.LOADING); ctx.progress(0.5); ctx.note(spec.scan_id)",
        tmp_path,
    )
    assert end.returncode == 0
    assert end.result is not None
    assert end.result.status == "ok"
    assert events == [
        {"event": "stage", "stage": "loading"},
        {"event": "progress", "stage": "loading", "fraction": 0.5},
        {"event": "note", "message": "scan_test"},
    ]
    assert "raw" in end.stderr_tail


@pytest.mark.parametrize(
    ("body", "code", "retryable"),
    [
        ("raise UnsafeError('unsafe_pickle', 'It runs code.', 'Do not.')", "unsafe_pickle", False),
        ("raise StorageFullError('storage_full', 'x')", "storage_full", True),
        ("raise MemoryError", "out_of_memory", False),
        ("raise type('OutOfMemoryError', (RuntimeError,), {})()", "out_of_memory", False),
        ("raise OSError(28, 'No space left on device')", "storage_full", True),
        ("raise RuntimeError('secret path /x')", "internal_error", False),
        ("raise RecursionError", "internal_error", False),
    ],
)
def test_errors_become_failures_with_a_code(tmp_path: Path, body: str, code: str, retryable: bool) -> None:
    end, _ = run(body, tmp_path)
    assert end.returncode == 0
    assert end.result is not None
    assert end.result.error is not None
    assert (end.result.status, end.result.error.code, end.result.error.retryable) == ("failed", code, retryable)
    assert "secret" not in end.result.error.detail


def test_sigterm_stops_the_work_at_its_next_step(tmp_path: Path) -> None:
    entered: list[float] = []

    def halt() -> Halt | None:
        return Halt.CANCELED if entered and time.monotonic() - entered[0] > 0.1 else None

    (tmp_path / "spec.json").write_text(job_spec(tmp_path / "model.pth").model_dump_json())
    end = run_child(
        command("ctx.enter(Stage.INVERTING)\n    while True: time.sleep(0.01); ctx.checkpoint()"),
        tmp_path,
        environment=child_environment(tmp_path, 1, compute=True),
        on_event=lambda _: entered.append(time.monotonic()),
        halt=halt,
    )
    assert end.result is not None
    assert (end.halt, end.returncode, end.result.status) == (Halt.CANCELED, 0, "canceled")


def test_a_child_whose_spec_is_broken_leaves_no_outcome(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(json.dumps({"scan_id": "x"}))
    end = run_child(
        command("pass"),
        tmp_path,
        environment=child_environment(tmp_path, 1, compute=False),
        on_event=lambda _: None,
        halt=lambda: None,
    )
    assert end.returncode == 1
    assert end.result is None


def test_a_child_dies_with_its_worker(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text(job_spec(tmp_path / "model.pth").model_dump_json())
    body = "open(job_dir / 'pid', 'w').write(str(os.getpid())); time.sleep(60)"
    parent = f"""
import sys; sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from worker.children import child_environment, run_child
job = Path({str(tmp_path)!r})
run_child({command(body)!r}, job, environment=child_environment(job, 1, compute=True),
          on_event=lambda _: None, halt=lambda: None)
"""
    worker = subprocess.Popen([sys.executable, "-c", parent])
    try:
        pid_file, limit = tmp_path / "pid", time.monotonic() + 20
        while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < limit:
            time.sleep(0.02)
        child = int(pid_file.read_text())
    finally:
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    limit = time.monotonic() + 5
    while time.monotonic() < limit:
        try:
            os.kill(child, 0)
            if Path(f"/proc/{child}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                break
        except (ProcessLookupError, FileNotFoundError):
            break
        time.sleep(0.05)
    else:
        os.kill(child, signal.SIGKILL)
        pytest.fail("the child outlived its worker")
