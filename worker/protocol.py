"""Files and lines exchanged with the child processes of a scan.

A job folder holds:
    spec.json            JobSpec, written by the runner
    intake/              written by the parsing child: weights.safetensors, layout.json, inspection.json,
                         reference.safetensors (absent without a reference set), reference.json
                         (of a dry run: inspection-report.json alone)
    result/              written by the computing child: report.json and the artifacts it names
    outcome.json         ChildResult of the child that ran last

Children write events (core.context) as JSON lines to standard output; diagnostics go to standard error.
Children exit with 0 when outcome.json was written, whatever it says.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

FACTS = "facts.json"  # core.report.reference.ReferenceFacts


class ModelFile(BaseModel):
    """One file of a model of several: its path within the model, and where its bytes are."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    location: Path


class JobSpec(BaseModel):
    """What the children of one scan are given. Paths are absolute; the model and reference files are read-only."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scan_id: str
    model_path: Path  # the checkpoint; of a model of several files the manifest, which names them
    model_files: tuple[ModelFile, ...] = ()  # empty: model_path is the whole model
    model_filename: str
    model_sha256: str
    reference_path: Path | None  # a zip file or a folder
    reference_sha256: str | None
    config: dict[str, Any]  # core.config.ScanConfig.to_json()
    threads: int
    dry_run: bool = False  # the parsing child describes the model, and nobody computes


class ReferenceSpec(BaseModel):
    """What the child that looks through a reference set is given: a zip file. It writes FACTS to the job folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path


class ErrorInfo(BaseModel):
    """Why a scan has no verdict."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    detail: str
    hint: str = ""
    retryable: bool = False


class ChildResult(BaseModel):
    """How a child ended. On `ok` of the computing child, result/report.json is complete."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["ok", "failed", "canceled"]
    error: ErrorInfo | None = None
