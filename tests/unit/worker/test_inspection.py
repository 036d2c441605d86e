"""Dry runs: what comes of a child that dies, hangs, or leaves something else than a report."""

import signal
from pathlib import Path

import pytest

from core.config import ScanConfig
from core.errors import CanceledError, EngineError, UnavailableError
from core.report.inspection import InspectionReport
from tests.support.children import python_child
from worker.children import ChildCommands
from worker.inspection import inspect_model

OUTCOME = "open(job + '/outcome.json', 'w').write('{\"status\": \"ok\"}')"


def _run(tmp_path: Path, code: str, limit_s: float = 30.0, stop: bool = False) -> InspectionReport:
    model = tmp_path / "m.pth"
    model.write_bytes(b"x")
    never = python_child("open(job + '/../computed', 'w')")
    try:
        return inspect_model(
            model,
            "m.pth",
            (),
            ScanConfig(),
            tmp_path,
            ChildCommands(parse=python_child(code), compute=never),
            should_stop=lambda: stop,
            limit_s=limit_s,
        )
    finally:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["m.pth"]


def test_only_the_parsing_child_runs_and_its_report_is_read(tmp_path: Path) -> None:
    report = InspectionReport(outcome="accepted", findings=[], layout="checkpoint").model_dump_json()
    code = f"open(job + '/intake/inspection-report.json', 'w').write({report!r}); {OUTCOME}"
    assert _run(tmp_path, code).layout == "checkpoint"


@pytest.mark.parametrize(
    "code",
    [
        OUTCOME,
        f"open(job + '/intake/inspection-report.json', 'w').write('[]'); {OUTCOME}",
        f"os.symlink('/etc/passwd', job + '/intake/inspection-report.json'); {OUTCOME}",
    ],
)
def test_what_is_no_report_is_not_believed(tmp_path: Path, code: str) -> None:
    with pytest.raises(EngineError) as caught:
        _run(tmp_path, code)
    assert caught.value.code == "invalid_result"


def test_a_child_that_ends_badly(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        _run(tmp_path, "sys.exit(3)")
    assert caught.value.code == "worker_child_died"
    with pytest.raises(UnavailableError):  # may be bad luck: memory
        _run(tmp_path, f"os.kill(os.getpid(), {int(signal.SIGKILL)})")


def test_a_child_that_takes_too_long(tmp_path: Path) -> None:
    with pytest.raises(EngineError) as caught:
        _run(tmp_path, "time.sleep(60)", limit_s=0.5)
    assert caught.value.code == "parsing_timed_out"


def test_whoever_asked_may_stop_it(tmp_path: Path) -> None:
    with pytest.raises(CanceledError):
        _run(tmp_path, "time.sleep(60)", stop=True)
