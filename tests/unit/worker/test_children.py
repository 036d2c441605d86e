import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.support.children import python_child
from worker.children import ChildExit, Halt, child_environment, read_outcome, run_child

OK = """open(job + '/outcome.json', 'w').write('{"status": "ok"}')"""


def run(code: str, job: Path, **options: object) -> ChildExit:
    arguments = {"environment": {}, "on_event": lambda _: None, "halt": lambda: None, **options}
    return run_child(python_child(code), job, **arguments)


def halt_after(seconds: float, why: Halt):
    start = time.monotonic()
    return lambda: why if time.monotonic() - start >= seconds else None


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_events_and_outcome_come_back(tmp_path: Path) -> None:
    events: list[object] = []
    code = """print('{"event": "stage", "stage": "loading"}', flush=True); print('oops', file=sys.stderr); """ + OK
    end = run(code, tmp_path, on_event=events.append)
    assert events == [{"event": "stage", "stage": "loading"}]
    assert (end.returncode, end.halt, end.signal_name) == (0, None, None)
    assert end.result is not None
    assert end.result.status == "ok"
    assert end.stderr_tail == "oops\n"


def test_everything_written_before_the_end_is_read(tmp_path: Path) -> None:
    events: list[object] = []
    code = """for i in range(5000): print('{"event": "note", "message": "%d"}' % i)\n""" + OK
    run(code, tmp_path, on_event=events.append)
    assert [e["message"] for e in events] == [str(i) for i in range(5000)]


def test_only_the_tail_of_the_diagnostics_is_kept(tmp_path: Path) -> None:
    end = run("sys.stderr.write('x' * 3_000_000 + 'the end')", tmp_path)
    assert len(end.stderr_tail) <= 8 * 1024
    assert end.stderr_tail.endswith("the end")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_signal_death_is_named(tmp_path: Path, number: signal.Signals) -> None:
    code = f"import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); os.kill(os.getpid(), {int(number)})"
    end = run(code, tmp_path)
    assert end.signal_name == number.name
    assert end.result is None


def test_sigterm_lets_the_child_finish_its_step(tmp_path: Path) -> None:
    code = "\n".join(
        (
            "stop = []",
            "signal.signal(signal.SIGTERM, lambda *_: stop.append(1))",
            "while not stop: time.sleep(0.01)",
            """open(job + '/outcome.json', 'w').write('{"status": "canceled"}')""",
        )
    )
    end = run(code, tmp_path, halt=halt_after(0.3, Halt.CANCELED))
    assert (end.halt, end.returncode) == (Halt.CANCELED, 0)
    assert end.result is not None
    assert end.result.status == "canceled"


def test_a_child_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(60)"
    start = time.monotonic()
    end = run(code, tmp_path, halt=halt_after(0.3, Halt.CANCELED), grace_s=0.4)
    assert end.signal_name == "SIGKILL"
    assert 0.6 < time.monotonic() - start < 5


def test_a_fenced_child_is_killed_without_grace(tmp_path: Path) -> None:
    code = "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
    start = time.monotonic()
    end = run(code, tmp_path, halt=halt_after(0.2, Halt.FENCED), grace_s=30)
    assert (end.halt, end.signal_name) == (Halt.FENCED, "SIGKILL")
    assert time.monotonic() - start < 5


def test_a_stopped_child_is_killed_too(tmp_path: Path) -> None:
    end = run("os.kill(os.getpid(), signal.SIGSTOP)", tmp_path, halt=halt_after(0.2, Halt.DEADLINE), grace_s=0.2)
    assert (end.halt, end.signal_name) == (Halt.DEADLINE, "SIGKILL")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_grandchildren_do_not_outlive_the_child(tmp_path: Path) -> None:
    code = (
        "pid = os.fork()\n"
        "if pid == 0: time.sleep(60); os._exit(0)\n"  # holds the pipes open, too
        "open(job + '/pid', 'w').write(str(pid))\n" + OK
    )
    start = time.monotonic()
    run(code, tmp_path)
    assert time.monotonic() - start < 5
    grandchild = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 2
    while is_alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_alive(grandchild)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_an_error_in_the_caller_leaves_no_child_behind(tmp_path: Path) -> None:
    def explode(_: object) -> None:
        raise RuntimeError("caller")

    code = """open(job + '/pid', 'w').write(str(os.getpid()))
print('{"event": "note", "message": "x"}', flush=True); time.sleep(60)"""
    with pytest.raises(RuntimeError, match="caller"):
        run(code, tmp_path, on_event=explode)
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_an_outcome_of_an_earlier_child_is_not_taken_for_this_ones(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text('{"status": "ok"}')
    assert run("pass", tmp_path).result is None


@pytest.mark.parametrize(
    "content", ["", "{", '{"status": "fine"}', '{"status": "ok", "verdict": "clean"}', "[" * 5000, "x" * 300_000]
)
def test_a_bad_outcome_is_no_outcome(tmp_path: Path, content: str) -> None:
    (tmp_path / "outcome.json").write_text(content)
    assert read_outcome(tmp_path) is None


def test_an_outcome_that_is_no_regular_file_is_not_opened(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text('{"status": "ok"}')
    (tmp_path / "outcome.json").symlink_to(target)
    assert read_outcome(tmp_path) is None
    (tmp_path / "outcome.json").unlink()
    os.mkfifo(tmp_path / "outcome.json")
    assert read_outcome(tmp_path) is None


def test_texts_of_an_outcome_cannot_forge_log_lines(tmp_path: Path) -> None:
    (tmp_path / "outcome.json").write_text(
        '{"status": "failed", "error": {"code": "x", "detail": "a\\n2026 INFO root: \\u001b[31mok"}}'
    )
    result = read_outcome(tmp_path)
    assert result is not None
    assert result.error is not None
    assert result.error.detail == "a 2026 INFO root:  [31mok"


def test_no_secret_of_the_worker_reaches_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATABASE_URL", "postgresql+psycopg://u:canary@db/x")
    monkeypatch.setenv("HF_TOKEN", "canary")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    for compute in (False, True):
        environment = child_environment(tmp_path, 2, compute=compute)
        run("open(job + '/env', 'w').write(repr(dict(os.environ)))", tmp_path, environment=environment)
        seen = (tmp_path / "env").read_text()
        assert "canary" not in seen
        assert environment["OMP_NUM_THREADS"] == "2"
        assert environment["HOME"] == environment["TMPDIR"] == str(tmp_path)
        assert environment["CUDA_VISIBLE_DEVICES"] == ("1" if compute else "")


def test_no_file_of_the_worker_is_open_in_a_child(tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        run("open(job + '/fds', 'w').write(repr(sorted(map(int, os.listdir('/dev/fd')))))", tmp_path)
    descriptors = eval((tmp_path / "fds").read_text())
    assert descriptors[:3] == [0, 1, 2]
    assert len(descriptors) <= 5  # the listing itself, and the file that is being written
