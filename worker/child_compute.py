"""The computing child: validated tensors in, report and artifacts out."""

import resource
from pathlib import Path

from core.config import ScanConfig
from core.context import RunContext
from worker.attempt import INTAKE_DIR, RESULT_DIR
from worker.child_common import run_in_child
from worker.protocol import JobSpec
from worker.results import REPORT


def main() -> None:
    """Entry point of the process."""
    run_in_child(_work, JobSpec)


def _work(job_dir: Path, spec: JobSpec, ctx: RunContext) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    from core import pipeline  # imports torch: only in here

    result_dir = job_dir / RESULT_DIR
    report = pipeline.run(
        job_dir / INTAKE_DIR,
        result_dir,
        subject=pipeline.ScanSubject(
            model_sha256=spec.model_sha256,
            model_filename=spec.model_filename,
            reference_sha256=spec.reference_sha256,
        ),
        config=ScanConfig.from_json(spec.config),
        ctx=ctx,
        threads=spec.threads,
    )
    (result_dir / REPORT).write_text(report.model_dump_json())
