"""Commands of the stand-in children: real processes that speak the protocol, without the science."""

import json
import sys
from pathlib import Path
from typing import Any

from core.config import ScanConfig
from core.domain import SandboxMode
from worker.children import ChildCommands
from worker.protocol import JobSpec

SCRIPT = Path(__file__).parent / "fake_children" / "child.py"


def fake_children(_: SandboxMode = SandboxMode.AUTO) -> ChildCommands:
    """Children that do what the "model" says; see fake_children/child.py."""
    return ChildCommands(
        parse=(sys.executable, "-I", "-S", str(SCRIPT), "parse"),
        compute=(sys.executable, "-I", "-S", str(SCRIPT), "compute"),
    )


def python_child(code: str) -> tuple[str, ...]:
    """A child that runs `code`, which finds the job folder in `job` and has os, sys, time and signal at hand."""
    return (sys.executable, "-I", "-S", "-c", f"import os, sys, time, signal; job = sys.argv[1]\n{code}")


def write_script(path: Path, **script: Any) -> Path:
    """Write a "model" for the stand-in children."""
    path.write_text(json.dumps(script))
    return path


def job_spec(model: Path, **changes: Any) -> JobSpec:
    """A spec around `model` whose digests are made up."""
    values: dict[str, Any] = {
        "scan_id": "scan_test",
        "model_path": model,
        "model_filename": "model.pth",
        "model_sha256": "a" * 64,
        "reference_path": None,
        "reference_sha256": None,
        "config": ScanConfig().to_json(),
        "threads": 1,
    }
    return JobSpec(**{**values, **changes})
