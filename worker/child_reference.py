"""The child that looks through a reference set: hostile images in, counts and reasons out. It needs no torch."""

import json
from pathlib import Path

from core.context import RunContext
from core.data.checking import check_reference
from core.domain import SandboxMode
from core.errors import AssayError, InvalidInputError
from worker.child_common import run_in_child
from worker.protocol import FACTS, ReferenceSpec
from worker.sandbox import confine


def main(sandbox: str) -> None:
    """Entry point of the process. `sandbox` is a SandboxMode."""
    mode = SandboxMode(sandbox)

    def close_in(job_dir: Path, spec: ReferenceSpec) -> None:
        confine(mode, input_bytes=spec.path.stat().st_size, readable=[spec.path], writable=[job_dir])

    run_in_child(_work, ReferenceSpec, close_in)


def _work(job_dir: Path, spec: ReferenceSpec, ctx: RunContext) -> None:
    try:
        facts = check_reference(spec.path, ctx.progress)
    except (AssayError, OSError):
        raise
    except Exception as error:  # parsers raise whatever they like at foreign bytes: it is about the bytes
        raise InvalidInputError(
            "invalid_reference", f"The reference set cannot be read ({type(error).__name__}).", "Pack it again."
        ) from error
    (job_dir / FACTS).write_text(json.dumps(facts))
