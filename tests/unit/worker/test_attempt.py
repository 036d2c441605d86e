"""Parse, then compute: stand-in children, real processes."""

import signal
import time
from pathlib import Path

import pytest

from tests.support.children import fake_children, job_spec, python_child, write_script
from worker.attempt import AttemptEnd, available_threads, run_children
from worker.children import ChildCommands, Halt


def run(tmp_path: Path, commands: ChildCommands | None = None, **script: object) -> AttemptEnd:
    model = write_script(tmp_path / "model.json", log=str(tmp_path / "log"), **script)
    job = tmp_path / "job"
    job.mkdir()
    return run_children(
        job, job_spec(model), commands or fake_children(), on_event=lambda _: None, halt=lambda: None, grace_s=0.5
    )


def test_both_children_run_in_order(tmp_path: Path) -> None:
    assert run(tmp_path) == AttemptEnd()
    job = tmp_path / "job"
    assert (job / "intake" / "weights.safetensors").stat().st_mtime <= (job / "result" / "report.json").stat().st_mtime


def test_what_the_compute_child_says_is_passed_on(tmp_path: Path) -> None:
    end = run(tmp_path, fail={"code": "unsupported_architecture", "detail": "None fits."})
    assert end.error is not None
    assert (end.error.code, end.error.retryable) == ("unsupported_architecture", False)


def test_a_refused_file_is_never_computed_on(tmp_path: Path) -> None:
    outcome = '{"status": "failed", "error": {"code": "unsafe_pickle", "detail": "x"}}'
    refuse = f"open(job + '/outcome.json', 'w').write({outcome!r})"
    end = run(tmp_path, ChildCommands(python_child(refuse), fake_children().compute))
    assert end.error is not None
    assert end.error.code == "unsafe_pickle"
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("where", ["parse", "inverting"])
def test_a_signal_is_named_and_worth_another_try(tmp_path: Path, where: str) -> None:
    end = run(tmp_path, die={"in": where, "signal": int(signal.SIGSEGV)})
    assert end.error is not None
    assert (end.error.code, end.error.retryable) == ("worker_child_died", True)
    assert "SIGSEGV" in end.error.detail
    assert ("parsing" if where == "parse" else "computing") in end.error.detail


@pytest.mark.parametrize("number", [signal.SIGXCPU, signal.SIGXFSZ])
def test_over_a_limit_is_not_worth_another_try(tmp_path: Path, number: signal.Signals) -> None:
    limits = "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); "
    code = f"{limits} signal.signal({int(number)}, signal.SIG_DFL); os.kill(os.getpid(), {int(number)})"
    end = run(tmp_path, ChildCommands(python_child(code), fake_children().compute))
    assert end.error is not None
    assert (end.error.code, end.error.retryable) == ("worker_child_died", False)


def test_an_exit_status_is_a_bug_and_not_worth_another_try(tmp_path: Path) -> None:
    end = run(tmp_path, die={"in": "detecting", "exit": 3})
    assert end.error is not None
    assert (end.error.code, end.error.retryable) == ("worker_child_died", False)
    assert "3" in end.error.detail


def test_an_outcome_does_not_excuse_a_bad_exit(tmp_path: Path) -> None:
    code = """open(job + '/outcome.json', 'w').write('{"status": "ok"}'); sys.exit(4)"""
    end = run(tmp_path, ChildCommands(fake_children().parse, python_child(code)))
    assert end.error is not None
    assert end.error.code == "worker_child_died"


def test_a_sigterm_from_elsewhere_is_no_cancel(tmp_path: Path) -> None:
    code = """open(job + '/outcome.json', 'w').write('{"status": "canceled"}')"""
    end = run(tmp_path, ChildCommands(fake_children().parse, python_child(code)))
    assert end.halt is None
    assert end.error is not None
    assert end.error.retryable


def test_a_child_cannot_forge_lines_of_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = "sys.stderr.write('boom\\n2026 INFO root: \\x1b[31mall is well\\n'); sys.exit(3)"
    run(tmp_path, ChildCommands(python_child(code), fake_children().compute))
    assert "  | boom\n  | 2026 INFO root:  [31mall is well" in caplog.text
    assert "\x1b" not in caplog.text


def test_parsing_has_its_own_time_limit(tmp_path: Path) -> None:
    model = write_script(tmp_path / "model.json")
    job = tmp_path / "job"
    job.mkdir()
    commands = ChildCommands(python_child("time.sleep(60)"), fake_children().compute)
    end = run_children(
        job, job_spec(model), commands, on_event=lambda _: None, halt=lambda: None, grace_s=0.2, parse_limit_s=0.3
    )
    assert end.error is not None
    assert (end.error.code, end.error.retryable) == ("parsing_timed_out", False)


@pytest.mark.parametrize("why", [Halt.CANCELED, Halt.DEADLINE, Halt.DRAINING, Halt.FENCED])
def test_a_halt_is_passed_on(tmp_path: Path, why: Halt) -> None:
    model = write_script(tmp_path / "model.json", stages={"inverting": 60})
    job = tmp_path / "job"
    job.mkdir()
    start = time.monotonic()
    end = run_children(
        job,
        job_spec(model),
        fake_children(),
        on_event=lambda _: None,
        halt=lambda: why if time.monotonic() - start > 0.4 else None,
    )
    assert end == AttemptEnd(halt=why)
    assert time.monotonic() - start < 4


def test_threads_are_all_cores_unless_told() -> None:
    assert available_threads(3) == 3
    assert available_threads(0) >= 1
