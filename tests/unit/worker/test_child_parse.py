"""The real parsing child: fresh interpreter, real files, bounded resources."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.children import job_spec
from worker.children import ChildExit, child_environment, real_children, run_child

ROOT = Path(__file__).parents[3]


def parse(model: Path, job: Path) -> ChildExit:
    (job / "intake").mkdir(parents=True)
    (job / "spec.json").write_text(job_spec(model, model_filename=model.name).model_dump_json())
    return run_child(
        real_children().parse,
        job,
        environment=child_environment(job, 1, compute=False),
        on_event=lambda _: None,
        halt=lambda: None,
    )


@pytest.mark.parametrize("content", [b"", b"MZ this is no model", b"\x80\x02cos\nsystem\n(S'touch fired'\ntR."])
def test_what_is_no_model_is_refused_with_a_code(tmp_path: Path, content: bytes) -> None:
    model = tmp_path / "model.pth"
    model.write_bytes(content)
    end = parse(model, tmp_path / "job")
    assert end.returncode == 0, end.stderr_tail
    assert end.result is not None
    assert end.result.error is not None
    assert end.result.error.code not in ("internal_error", "")
    assert not list(tmp_path.rglob("fired"))
    assert not list((tmp_path / "job" / "intake").iterdir())


def test_the_module_itself_does_not_import_torch() -> None:
    """What comes before the sandbox is closed must be little, and start no thread."""
    code = "import sys, worker.child_parse; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_model_becomes_validated_tensors(tmp_path: Path) -> None:
    from tests.support.checkpoints import save, tiny_network

    model = save(tiny_network(num_classes=3).state_dict(), tmp_path / "model", "torch-zip")
    end = parse(model, tmp_path / "job")
    assert end.result is not None
    assert end.result.status == "ok", end.result.error
    assert (tmp_path / "job" / "intake" / "weights.safetensors").stat().st_size > 0


def limited(tmp_path: Path, code: str) -> "subprocess.CompletedProcess[str]":
    """Run `code` under the limits for a model of one byte."""
    frame = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from worker.sandbox import limit_resources; limit_resources(1)\n"
        f"{code}"
    )
    return subprocess.run([sys.executable, "-c", frame], capture_output=True, text=True, check=False, cwd=tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="other kernels do not count memory this way")
def test_memory_is_bounded(tmp_path: Path) -> None:
    end = limited(tmp_path, "bytearray(100 * 2**30)")
    assert end.returncode == 1
    assert "MemoryError" in end.stderr


def test_files_processor_time_and_core_dumps_are_bounded(tmp_path: Path) -> None:
    end = limited(
        tmp_path,
        "import resource as r\n"
        "print(*(r.getrlimit(k)[1] for k in (r.RLIMIT_CORE, r.RLIMIT_CPU, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE)))",
    )
    core, cpu, size, files = map(int, end.stdout.split())
    assert core == 0
    assert 0 < cpu <= 1_800
    assert 0 < size < 2**34
    assert 0 < files <= 512
