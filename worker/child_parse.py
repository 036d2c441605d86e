"""The parsing child: hostile bytes in, validated safetensors out. No credentials, no accelerator, bounded."""

import resource
from pathlib import Path

from core.config import ScanConfig
from core.context import RunContext
from worker.attempt import INTAKE_DIR
from worker.child_common import run_in_child
from worker.protocol import JobSpec

CPU_LIMIT_S = 1_800
OPEN_FILES_LIMIT = 512
SPARE_BYTES = 8 * 2**30


def main() -> None:
    """Entry point of the process."""
    run_in_child(_work)


def _work(job_dir: Path, spec: JobSpec, ctx: RunContext) -> None:
    _limit_resources(spec)
    from core.models.intake import intake  # imports torch: only in here
    from core.models.source import Source, SourceFile

    source = Source.single(spec.model_path, spec.model_filename)
    if spec.model_files:
        source = Source(tuple(SourceFile(file.path, file.location) for file in spec.model_files))
    intake(
        source,
        spec.reference_path,
        ScanConfig.from_json(spec.config),
        job_dir / INTAKE_DIR,
        ctx,
    )


def _limit_resources(spec: JobSpec) -> None:
    """Processor time, file size, memory, open files and core dumps, in proportion to the input.

    Memory is bounded as writable private memory (RLIMIT_DATA), not address space: the libraries of torch alone
    map many gigabytes of address space.
    """
    locations = [file.location for file in spec.model_files] or [spec.model_path]
    size = sum(location.stat().st_size for location in locations)
    if spec.reference_path is not None and spec.reference_path.is_file():
        size += spec.reference_path.stat().st_size
    room = SPARE_BYTES + 8 * size
    for kind, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_CPU, CPU_LIMIT_S),
        (resource.RLIMIT_FSIZE, room),
        (resource.RLIMIT_DATA, room),
        (resource.RLIMIT_NOFILE, OPEN_FILES_LIMIT),
    ):
        _, hard = resource.getrlimit(kind)
        value = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (value, value))
