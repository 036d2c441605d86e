"""Claims and leases: what workers and the sweeper do. See core/jobs/state.py for the transitions.

Whoever claims a scan gets a token; every later write names it and changes nothing once a newer claim exists.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from core.domain import JobState, Stage
from core.jobs._parts import ServiceParts
from core.jobs.contents import load_contents
from core.jobs.publication import publish_result
from core.jobs.state import CANCEL_RUNNING, CLAIM, FAIL, REQUEUE, SUCCEED
from core.jobs.views import ClaimedJob, Renewal
from core.registry.repositories.leases import (
    Condition,
    Expired,
    LeaseRepository,
    attempt_counted,
    attempt_given_back,
    cancel_not_wanted,
    cancel_wanted,
    lease_expired,
    startable,
)
from core.report.schema import ArtifactInfo, Report

MAX_EVENTS = 500
_MAX_EVENT_CHARS = 4000
_MAX_DETAIL_CHARS = 4000
_BACKOFF_S, _MAX_PAUSE_S = 5, 3600.0

_FENCED = Renewal(alive=False, cancel_requested=False)


class Leases(ServiceParts):
    """The workers' side of the job service."""

    def claim(self, scan_id: str, owner: str) -> ClaimedJob | None:
        """Take a queued scan whose back-off is over; the attempt is counted before any work starts.

        Args:
            owner: who claims, for people: host and process.

        Returns:
            None if there is nothing to claim: unknown, claimed by somebody else, finished, or not yet due.
        """
        with self._db.begin() as session:
            leases, now = LeaseRepository(session), self._db.now(session)
            row = leases.transition(
                scan_id,
                CLAIM,
                startable(now),
                cancel_not_wanted(),
                lease_owner=owner[:255],
                lease_expires_at=now + self._lease,
                deadline_at=now + timedelta(seconds=self._settings.deadline_s),
                stage=Stage.FETCHING,
                progress=0.0,
                **attempt_counted(now),
            )
            if row is None:
                return None
            assert row.deadline_at is not None
            leases.add_event(scan_id, row.attempt, {"event": "claimed", "owner": owner[:255]}, now, MAX_EVENTS)
            return ClaimedJob(
                scan_id=row.id,
                token=row.attempt,
                org_id=row.org_id,
                model_sha256=row.model_sha256,
                model_filename=row.model_filename,
                reference_sha256=row.reference_sha256,
                config=row.config,
                deadline_at=row.deadline_at,
                contents=load_contents(session, row.org_id, row.model_sha256, row.hub_reference_id),
            )

    def renew(self, claim: ClaimedJob, stage: Stage | None, progress: float, eta_s: float | None) -> Renewal:
        """Extend the lease and report how far the scan is (`progress` over the whole scan, brought into [0, 1])."""
        with self._db.begin() as session:
            held = LeaseRepository(session).renew(
                claim.scan_id,
                claim.token,
                lease_expires_at=self._db.now(session) + self._lease,
                stage=stage,
                progress=min(max(progress, 0.0), 1.0),
                eta_s=eta_s,
            )
            return Renewal(True, held.cancel_requested) if held else _FENCED

    def cancel_requested(self, claim: ClaimedJob) -> Renewal:
        """Like renew, without extending the lease: a cheap read."""
        with self._db.read() as session:
            held = LeaseRepository(session).holder(claim.scan_id, claim.token)
            return Renewal(True, held.cancel_requested) if held else _FENCED

    def record_event(self, claim: ClaimedJob, event: Mapping[str, Any]) -> bool:
        """Keep a JSON event for people. False, and nothing kept, when fenced or after MAX_EVENTS of the scan."""
        payload = _bounded(event)
        with self._db.begin() as session:
            leases = LeaseRepository(session)
            if leases.holder(claim.scan_id, claim.token) is None:
                return False
            return leases.add_event(claim.scan_id, claim.token, payload, self._db.now(session), MAX_EVENTS)

    def succeed(self, claim: ClaimedJob, report: Report, artifacts: Sequence[ArtifactInfo]) -> bool:
        """Commit the result: state, verdict, artifacts and lineage together, or nothing.

        Args:
            artifacts: files of the report; their blobs are in the store.

        Returns:
            False if the claim is no longer the current one, or if a cancel was requested before: then the holder
            commits `canceled`.

        Raises:
            UnavailableError: `artifact_missing`, a blob is not in the store (any more).
        """
        with self._db.begin() as session:
            self._db.lock_blobs(session, exclusive=False)
            now = self._db.now(session)
            row = LeaseRepository(session).transition(
                claim.scan_id,
                SUCCEED,
                cancel_not_wanted(),
                token=claim.token,
                stage=None,
                progress=1.0,
                finished_at=now,
            )
            if row is None:
                return False
            publish_result(session, self._store, row, report, artifacts, now)
            return True

    def fail(
        self,
        claim: ClaimedJob,
        code: str,
        detail: str,
        hint: str = "",
        retryable: bool = False,
        retry_after_s: float = 0.0,
    ) -> JobState | None:
        """End the attempt with an error: queued again if that can help and attempts remain, else failed.

        Args:
            retry_after_s: wait at least so long before the next attempt, within reason.

        Returns:
            The state the scan is in now (canceled if that was requested meanwhile); None when fenced.
        """
        with self._db.begin() as session:
            leases, now = LeaseRepository(session), self._db.now(session)
            leases.lock(claim.scan_id)
            if self._cancel(leases, claim.scan_id, claim.token, now):
                return JobState.CANCELED
            holder = leases.holder(claim.scan_id, claim.token)
            if holder is None:
                return None
            charged = holder.attempt - holder.released
            if retryable and charged < self._settings.max_attempts:
                leases.add_event(claim.scan_id, claim.token, {"event": "retry", "code": code[:64]}, now, MAX_EVENTS)
                pause = timedelta(seconds=max(_BACKOFF_S * 2**charged, min(retry_after_s, _MAX_PAUSE_S)))
                return self._requeue(leases, claim.scan_id, claim.token, not_before=now + pause)
            moved = leases.transition(
                claim.scan_id,
                FAIL,
                token=claim.token,
                stage=None,
                finished_at=now,
                error_code=code[:64],
                error_detail=_text(detail),
                error_hint=_text(hint),
            )
            return JobState.FAILED if moved else None

    def canceled(self, claim: ClaimedJob) -> bool:
        """The holder stopped because it was asked to. False when fenced, or when nobody asked."""
        with self._db.begin() as session:
            return self._cancel(LeaseRepository(session), claim.scan_id, claim.token, self._db.now(session))

    def release(self, claim: ClaimedJob) -> bool:
        """A draining worker gives the scan back: queued at once (or canceled, if that was requested).

        The attempt does not count against the cap. False when fenced.
        """
        with self._db.begin() as session:
            leases, now = LeaseRepository(session), self._db.now(session)
            leases.lock(claim.scan_id)
            if self._cancel(leases, claim.scan_id, claim.token, now):
                return True
            values = attempt_given_back()
            return self._requeue(leases, claim.scan_id, claim.token, not_before=now, **values) is not None

    def reap(self) -> list[str]:
        """Take scans from workers whose lease ran out.

        Each is queued again at once; or failed with `worker_lost` when its attempts are used up; or canceled if that
        was requested.

        Returns:
            Their ids.
        """
        touched = []
        with self._db.begin() as session:
            leases, now = LeaseRepository(session), self._db.now(session)
            for lost in leases.expired(now):
                if self._reap_one(leases, lost, now):
                    leases.add_event(lost.scan_id, lost.attempt, {"event": "worker_lost"}, now, MAX_EVENTS)
                    touched.append(lost.scan_id)
        return touched

    def _reap_one(self, leases: LeaseRepository, lost: Expired, now: datetime) -> bool:
        leases.lock(lost.scan_id)
        expired = lease_expired(now)  # a renewal that came in between wins
        if self._cancel(leases, lost.scan_id, lost.attempt, now, expired):
            return True
        if lost.attempt - lost.released < self._settings.max_attempts:
            return self._requeue(leases, lost.scan_id, lost.attempt, expired, not_before=now) is not None
        moved = leases.transition(
            lost.scan_id,
            FAIL,
            expired,
            token=lost.attempt,
            stage=None,
            finished_at=now,
            error_code="worker_lost",
            error_detail=f"The worker died or vanished; attempts made: {lost.attempt - lost.released}.",
            error_hint="The model may exhaust the worker's memory. The worker's log knows more.",
        )
        return moved is not None

    def due(self, limit: int = 100, *, include_published: bool = False) -> list[str]:
        """Queued scans to announce to workers, oldest first.

        Those never announced, or announced so long ago that the message may be lost.

        Args:
            include_published: all that are queued, for a broker that has just started empty.
        """
        with self._db.read() as session:
            now = self._db.now(session)
            before = None if include_published else now - timedelta(seconds=self._settings.republish_s)
            return list(LeaseRepository(session).due(now, before, limit))

    def mark_published(self, scan_id: str) -> None:
        """Note that a queued scan was announced."""
        with self._db.begin() as session:
            LeaseRepository(session).mark_published(scan_id, self._db.now(session))

    def _cancel(self, leases: LeaseRepository, scan_id: str, token: int, now: datetime, *conditions: Condition) -> bool:
        """Running to canceled, if a cancel was requested."""
        moved = leases.transition(
            scan_id, CANCEL_RUNNING, cancel_wanted(), *conditions, token=token, stage=None, finished_at=now
        )
        return moved is not None

    def _requeue(
        self,
        leases: LeaseRepository,
        scan_id: str,
        token: int,
        *conditions: Condition,
        not_before: datetime,
        **values: Any,
    ) -> JobState | None:
        """Running to queued, to be announced again."""
        moved = leases.transition(
            scan_id,
            REQUEUE,
            *conditions,
            token=token,
            stage=None,
            progress=0.0,
            not_before=not_before,
            published_at=None,
            **values,
        )
        return JobState.QUEUED if moved else None


def _text(value: str) -> str:
    """What PostgreSQL can store: no NUL, and not without end."""
    return value.replace("\0", "")[:_MAX_DETAIL_CHARS]


def _bounded(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event itself, or only its name if it is very large."""
    if len(json.dumps(event)) <= _MAX_EVENT_CHARS:
        return dict(event)
    return {"event": str(event.get("event", ""))[:64], "truncated": True}
