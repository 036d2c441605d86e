"""The transition table, and the service held against it by random walks."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.domain import JobState
from core.errors import ConflictError
from core.jobs.service import ClaimedJob
from core.jobs.state import TRANSITIONS, may_follow
from tests.support.databases import fresh_database
from tests.support.registry import Bench, make_report

LEGAL = {
    (JobState.QUEUED, JobState.RUNNING),
    (JobState.QUEUED, JobState.CANCELED),
    (JobState.RUNNING, JobState.SUCCEEDED),
    (JobState.RUNNING, JobState.FAILED),
    (JobState.RUNNING, JobState.CANCELED),
    (JobState.RUNNING, JobState.QUEUED),
}


@pytest.mark.parametrize("source", list(JobState))
@pytest.mark.parametrize("target", list(JobState))
def test_table(source: JobState, target: JobState) -> None:
    assert may_follow(source, target) == ((source, target) in LEGAL)


def test_nothing_leads_out_of_a_terminal_state() -> None:
    assert not any(state.is_terminal for item in TRANSITIONS for state in item.sources)


class OneScan(RuleBasedStateMachine):
    """Workers, users and the sweeper act on one scan in any order; old claims keep acting."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        self._database = fresh_database("sqlite", folder)
        self.bench = Bench.at(self._database.__enter__(), folder, max_attempts=3)
        self.scan_id = self.bench.submit().scan.id
        self.claims: list[ClaimedJob] = []
        self.state, self.attempt, self.results = JobState.QUEUED, 0, 0

    def teardown(self) -> None:
        self._database.__exit__(None, None, None)
        self._folder.cleanup()

    @rule()
    def claim(self) -> None:
        claim = self.bench.service.claim(self.scan_id, "w")
        assert (claim is not None) == (self.state is JobState.QUEUED)
        if claim is not None:
            assert claim.token == self.attempt + 1
            self.claims.append(claim)

    @precondition(lambda self: self.claims)
    @rule(old=st.booleans())
    def succeed(self, old: bool) -> None:
        claim = self.claims[0 if old else -1]
        done = self.bench.service.succeed(claim, make_report(claim), [])
        if done:
            assert self.state is JobState.RUNNING
            assert claim.token == self.attempt
            self.results += 1

    @precondition(lambda self: self.claims)
    @rule(old=st.booleans(), retryable=st.booleans())
    def fail(self, old: bool, retryable: bool) -> None:
        claim = self.claims[0 if old else -1]
        if self.bench.service.fail(claim, "x", "x", retryable=retryable) is not None:
            assert claim.token == self.attempt
            self.bench.age(self.scan_id, 3600)

    @precondition(lambda self: self.claims)
    @rule(old=st.booleans(), how=st.booleans())
    def give_back(self, old: bool, how: bool) -> None:
        claim = self.claims[0 if old else -1]
        act = self.bench.service.release if how else self.bench.service.canceled
        if act(claim):
            assert claim.token == self.attempt

    @rule(expired=st.booleans())
    def reap(self, expired: bool) -> None:
        if expired:
            self.bench.age(self.scan_id, 3600)
        touched = self.bench.service.reap()
        assert bool(touched) == (expired and self.state is JobState.RUNNING)

    @rule()
    def cancel(self) -> None:
        finished = self.state in {JobState.SUCCEEDED, JobState.FAILED}
        try:
            self.bench.service.request_cancel(self.bench.org, self.scan_id)
        except ConflictError:
            assert finished
        else:
            assert not finished

    @invariant()
    def moves_as_the_table_says(self) -> None:
        view: Any = self.bench.service.get(self.bench.org, self.scan_id)
        if view.state is not self.state:
            assert may_follow(self.state, view.state)
        assert view.attempt - self.attempt in {0, 1}
        assert self.results == (view.state is JobState.SUCCEEDED) == self.bench.count("scan_result")
        assert (view.verdict is not None) == (view.state is JobState.SUCCEEDED)
        assert (view.finished_at is not None) == view.state.is_terminal
        self.state, self.attempt = view.state, view.attempt


OneScan.TestCase.settings = settings(
    max_examples=8,
    stateful_step_count=10,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
TestOneScan = OneScan.TestCase
