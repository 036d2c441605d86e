"""The parsing child: hostile bytes in, validated safetensors out. No credentials, no accelerator, bounded."""

from pathlib import Path

from core.config import ScanConfig
from core.context import RunContext
from core.domain import SandboxMode
from core.models.repository.names import is_checkpoint
from core.models.safety import check_file
from core.models.source import Source, SourceFile
from worker.attempt import INSPECTION_REPORT, INTAKE_DIR
from worker.child_common import run_in_child
from worker.protocol import JobSpec
from worker.sandbox import confine


def main(sandbox: str) -> None:
    """Entry point of the process. `sandbox` is a SandboxMode."""
    mode = SandboxMode(sandbox)

    def close_in(job_dir: Path, spec: JobSpec) -> None:
        inputs = _inputs(spec)
        size = sum(path.stat().st_size for path in inputs if path.is_file())
        confine(mode, input_bytes=size, readable=inputs, writable=[job_dir])

    run_in_child(_work, JobSpec, close_in)


def _inputs(spec: JobSpec) -> list[Path]:
    inputs = [file.location for file in spec.model_files] or [spec.model_path]
    return inputs if spec.reference_path is None else [*inputs, spec.reference_path]


def _work(job_dir: Path, spec: JobSpec, ctx: RunContext) -> None:
    source = Source.single(spec.model_path, spec.model_filename)
    if spec.model_files:
        source = Source(tuple(SourceFile(file.path, file.location) for file in spec.model_files))
    config = ScanConfig.from_json(spec.config)
    if spec.dry_run:
        from core.inspection import inspect  # imports torch: only in here

        report = inspect(source, config, ctx, threads=spec.threads)
        (job_dir / INTAKE_DIR / INSPECTION_REPORT).write_text(report.model_dump_json())
        return
    _refuse_early(source)
    from core.models.intake import intake

    intake(source, spec.reference_path, config, job_dir / INTAKE_DIR, ctx)


def _refuse_early(source: Source) -> None:
    """Most of what is refused is refused here, seconds before torch is imported and out of its reach."""
    file = source.files[0]
    if len(source.files) == 1 and is_checkpoint(file.path):
        check_file(file.location, file.path)
