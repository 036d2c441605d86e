"""The result folder of the computing child, checked before anything in it is believed."""

import hashlib
import os
import stat
from pathlib import Path

from pydantic import ValidationError

from core.config import ScanConfig
from core.errors import EngineError
from core.report.schema import ArtifactInfo, Report
from worker.children import read_small_file
from worker.protocol import JobSpec

REPORT = "report.json"
MAX_REPORT_BYTES = 16 * 2**20


def load_report(result_dir: Path, spec: JobSpec) -> Report:
    """The report in `result_dir`.

    Raises:
        EngineError: ("invalid_result") if it does not fit the schema or the scan it is for, or if an artifact it
            names is not there with the size and digest it states.
    """
    data = read_small_file(result_dir / REPORT, MAX_REPORT_BYTES)
    if data is None:
        raise _invalid("there is no report")
    try:
        report = Report.model_validate_json(data)
    except ValidationError as error:
        raise _invalid(f"the report does not fit its schema ({error.error_count()} errors)") from error
    if report.model.sha256 != spec.model_sha256:
        raise _invalid("the report is about another model")
    if report.config_digest != ScanConfig.from_json(spec.config).digest:
        raise _invalid("the report was made with another configuration")
    if (report.reference_set.sha256 if report.reference_set else None) != spec.reference_sha256:
        raise _invalid("the report was made with another reference set")
    for artifact in report.artifacts:
        _check(result_dir, artifact)
    return report


def artifact_path(result_dir: Path, artifact: ArtifactInfo) -> Path:
    """Where the file of `artifact` is. Raises EngineError if its name is more than a name."""
    name = artifact.filename
    if not name or name in (".", "..", REPORT) or Path(name).name != name or "\0" in name:
        raise _invalid("an artifact has an impossible file name")
    return result_dir / name


def _check(result_dir: Path, artifact: ArtifactInfo) -> None:
    path = artifact_path(result_dir, artifact)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _invalid(f"artifact {artifact.role} is missing") from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size != artifact.size_bytes:
            raise _invalid(f"artifact {artifact.role} has another size than the report says")
        if hashlib.file_digest(file, "sha256").hexdigest() != artifact.sha256:
            raise _invalid(f"artifact {artifact.role} has another digest than the report says")


def _invalid(what: str) -> EngineError:
    return EngineError("invalid_result", f"The scan's result cannot be used: {what}.")
