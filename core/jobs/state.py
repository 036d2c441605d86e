"""The transition table of a scan. Every change of state anywhere is one of these, done by one conditional UPDATE."""

from dataclasses import dataclass
from typing import Final

from core.domain import JobState


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of state and where it may start. No terminal state is ever a source."""

    name: str
    sources: frozenset[JobState]
    target: JobState


_RUNNING = frozenset({JobState.RUNNING})

CLAIM: Final = Transition("claim", frozenset({JobState.QUEUED}), JobState.RUNNING)
SUCCEED: Final = Transition("succeed", _RUNNING, JobState.SUCCEEDED)
FAIL: Final = Transition("fail", _RUNNING, JobState.FAILED)
REQUEUE: Final = Transition("requeue", _RUNNING, JobState.QUEUED)  # drain, retryable error or expired lease
CANCEL_QUEUED: Final = Transition("cancel_queued", frozenset({JobState.QUEUED}), JobState.CANCELED)
CANCEL_RUNNING: Final = Transition("cancel_running", _RUNNING, JobState.CANCELED)

TRANSITIONS: Final = (CLAIM, SUCCEED, FAIL, REQUEUE, CANCEL_QUEUED, CANCEL_RUNNING)


def may_follow(source: JobState, target: JobState) -> bool:
    """Whether any transition leads from `source` to `target`."""
    return any(source in item.sources and target is item.target for item in TRANSITIONS)
