"""Both children of a scan, one after the other, and what their end means."""

import logging
import os
import time
from dataclasses import dataclass
from pathlib import Path

from worker.children import (
    KILL_GRACE_S,
    SPEC,
    AskHalt,
    ChildCommands,
    ChildExit,
    Halt,
    child_environment,
    run_child,
)
from worker.events import OnEvent, clean_text
from worker.protocol import ErrorInfo, JobSpec

INTAKE_DIR = "intake"
RESULT_DIR = "result"
INSPECTION_REPORT = "inspection-report.json"  # in the intake folder
PARSE_LIMIT_S = 900.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """How both children ended: both None means that result/ is complete."""

    halt: Halt | None = None
    error: ErrorInfo | None = None


def run_children(
    job_dir: Path,
    spec: JobSpec,
    commands: ChildCommands,
    *,
    on_event: OnEvent,
    halt: AskHalt,
    grace_s: float = KILL_GRACE_S,
    parse_limit_s: float = PARSE_LIMIT_S,
) -> AttemptEnd:
    """Parse, then compute, in the empty folder `job_dir`; a dry run is parsed only.

    Args:
        halt: asked several times a second; see children.run_child.
        parse_limit_s: wall time the parsing child may take; the computing one is bounded by `halt` alone.
    """
    for name in (INTAKE_DIR, RESULT_DIR):
        (job_dir / name).mkdir(mode=0o700)
    (job_dir / SPEC).write_text(spec.model_dump_json())

    parse_until = time.monotonic() + parse_limit_s

    def halt_parsing() -> Halt | None:
        return halt() or (Halt.TIME_LIMIT if time.monotonic() > parse_until else None)

    phases = [("parsing", commands.parse, halt_parsing), ("computing", commands.compute, halt)]
    for phase, command, ask in phases[:1] if spec.dry_run else phases:
        exit_ = run_child(
            command,
            job_dir,
            environment=child_environment(job_dir, spec.threads, compute=phase == "computing"),
            on_event=on_event,
            halt=ask,
            grace_s=grace_s,
        )
        end = meaning(exit_, phase)
        if end != AttemptEnd():
            if end.error is not None and exit_.stderr_tail:
                log.warning(
                    "%s: the %s process failed (%s); its last words:\n%s",
                    spec.scan_id,
                    phase,
                    end.error.code,
                    _quoted(exit_.stderr_tail),
                )
            return end
    return AttemptEnd()


def available_threads(wanted: int) -> int:
    """`wanted`, or every core this process may use when it is 0."""
    if wanted > 0:
        return wanted
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


def _quoted(text: str) -> str:
    """Lines of a child for the log, marked so that none can be taken for a line of ours."""
    return "\n".join(f"  | {clean_text(line)}" for line in text.splitlines())


def meaning(exit_: ChildExit, phase: str) -> AttemptEnd:
    """What the end of one child is for whoever waits for it; AttemptEnd() if all is well."""
    if exit_.halt is Halt.TIME_LIMIT:
        return AttemptEnd(
            error=ErrorInfo(
                code="parsing_timed_out",
                detail="The files took too long to read.",
                hint="Re-save the model with a plain torch.save(model.state_dict(), ...) or as safetensors.",
            )
        )
    if exit_.halt is not None:
        return AttemptEnd(halt=exit_.halt)
    if exit_.returncode != 0 or exit_.result is None:
        return AttemptEnd(error=_death(exit_, phase))
    if exit_.result.status == "failed":
        return AttemptEnd(error=exit_.result.error or ErrorInfo(code="internal_error", detail="No reason was given."))
    if exit_.result.status == "canceled":  # a SIGTERM that was not ours: the host stops its processes
        return AttemptEnd(
            error=ErrorInfo(
                code="worker_child_died",
                detail=f"The {phase} process was told to stop from outside.",
                retryable=True,
            )
        )
    return AttemptEnd()


def _death(exit_: ChildExit, phase: str) -> ErrorInfo:
    """The error of a child that left no outcome. A signal may be bad luck (retryable); an exit status is a bug."""
    name = exit_.signal_name
    if name is None:
        cause = f"ended with exit status {exit_.returncode} and without a result"
    elif name == "SIGXCPU":
        cause = "used more processor time than it may"
    elif name == "SIGXFSZ":
        cause = "wrote more to the disk than it may"
    elif name == "SIGKILL":
        cause = "was killed by SIGKILL; most often memory has run out"
    else:
        cause = f"was killed by {name}"
    return ErrorInfo(
        code="worker_child_died",
        detail=f"The {phase} process {cause}.",
        retryable=name not in (None, "SIGXCPU", "SIGXFSZ"),
    )
