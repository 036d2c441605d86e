"""Scans as workers see them: each change is one conditional UPDATE, and no row means stale."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Row, func, or_, select, update

from core.domain import JobState
from core.registry.orm import ScanEvent, ScanJob
from core.registry.repositories._base import Repository

Condition = ColumnElement[bool]


class Move(Protocol):
    """A transition: see core/jobs/state.py, which says which ones there are."""

    @property
    def sources(self) -> frozenset[JobState]: ...

    @property
    def target(self) -> JobState: ...


@dataclass(frozen=True, slots=True)
class Moved:
    """A scan just after a transition."""

    id: str
    org_id: str
    state: JobState
    checkpoint_id: str
    model_sha256: str
    model_filename: str
    hub_reference_id: str | None
    reference_sha256: str | None
    config: dict[str, Any]
    attempt: int
    deadline_at: datetime | None


@dataclass(frozen=True, slots=True)
class Held:
    """A running scan as the holder of its claim sees it."""

    cancel_requested: bool
    attempt: int
    released: int


@dataclass(frozen=True, slots=True)
class Expired:
    """A running scan whose lease ran out."""

    scan_id: str
    attempt: int
    released: int
    cancel_requested: bool


class LeaseRepository(Repository):
    """Claims, leases and what is due."""

    def lock(self, scan_id: str) -> None:
        """Nobody else changes the scan until the transaction ends, so that several statements see one state of it.

        SQLite has one writer anyway.
        """
        self._session.execute(select(ScanJob.id).where(ScanJob.id == scan_id).with_for_update())

    def transition(
        self, scan_id: str, move: Move, *conditions: Condition, token: int | None = None, **values: Any
    ) -> Moved | None:
        """Move the scan if it is where `move` starts, `conditions` hold and, with `token`, that attempt holds it.

        Returns:
            None if nothing changed.
        """
        where = [ScanJob.id == scan_id, ScanJob.state.in_(sorted(move.sources)), *conditions]
        if token is not None:
            where.append(ScanJob.attempt == token)
        if move.target is not JobState.RUNNING:
            values = {"lease_owner": None, "lease_expires_at": None, "eta_s": None, **values}
        statement = (
            update(ScanJob)
            .where(*where)
            .values(state=move.target, **values)
            .returning(
                ScanJob.id,
                ScanJob.org_id,
                ScanJob.state,
                ScanJob.checkpoint_id,
                ScanJob.model_sha256,
                ScanJob.model_filename,
                ScanJob.hub_reference_id,
                ScanJob.reference_sha256,
                ScanJob.config,
                ScanJob.attempt,
                ScanJob.deadline_at,
            )
            .execution_options(synchronize_session=False)
        )
        row = self._session.execute(statement).first()
        return None if row is None else Moved(**row._mapping)

    def renew(self, scan_id: str, token: int, **values: Any) -> Held | None:
        """Change a running scan without moving it; None when fenced."""
        statement = (
            update(ScanJob)
            .where(ScanJob.id == scan_id, ScanJob.state == JobState.RUNNING, ScanJob.attempt == token)
            .values(**values)
            .returning(ScanJob.cancel_requested_at, ScanJob.attempt, ScanJob.released)
            .execution_options(synchronize_session=False)
        )
        return _held(self._session.execute(statement).first())

    def holder(self, scan_id: str, token: int) -> Held | None:
        """The scan while `token` holds it, else None. A read."""
        statement = select(ScanJob.cancel_requested_at, ScanJob.attempt, ScanJob.released).where(
            ScanJob.id == scan_id, ScanJob.state == JobState.RUNNING, ScanJob.attempt == token
        )
        return _held(self._session.execute(statement).first())

    def request_cancel(self, org_id: str, scan_id: str, now: datetime) -> bool:
        """Set the flag on a running scan (once); whether it is running."""
        statement = (
            update(ScanJob)
            .where(ScanJob.org_id == org_id, ScanJob.id == scan_id, ScanJob.state == JobState.RUNNING)
            .values(cancel_requested_at=func.coalesce(ScanJob.cancel_requested_at, now))
            .returning(ScanJob.id)
            .execution_options(synchronize_session=False)
        )
        return self._session.execute(statement).first() is not None

    def add_event(self, scan_id: str, token: int, payload: dict[str, Any], now: datetime, cap: int) -> bool:
        """Append an event of the attempt `token`; False when fenced or when there are `cap` events already."""
        count = self._session.execute(
            update(ScanJob)
            .where(ScanJob.id == scan_id, ScanJob.attempt == token, ScanJob.event_count < cap)
            .values(event_count=ScanJob.event_count + 1)
            .returning(ScanJob.event_count)
            .execution_options(synchronize_session=False)
        ).scalar()
        if count is None:
            return False
        self._session.add(ScanEvent(scan_id=scan_id, seq=count, attempt=token, created_at=now, payload=payload))
        self._session.flush()
        return True

    def expired(self, now: datetime) -> list[Expired]:
        """Running scans whose lease ended before `now`."""
        rows = self._session.execute(
            select(ScanJob.id, ScanJob.attempt, ScanJob.released, ScanJob.cancel_requested_at)
            .where(ScanJob.state == JobState.RUNNING, ScanJob.lease_expires_at < now)
            .order_by(ScanJob.id)
        )
        return [Expired(row.id, row.attempt, row.released, row.cancel_requested_at is not None) for row in rows]

    def due(self, now: datetime, published_before: datetime | None, limit: int) -> Sequence[str]:
        """Queued scans to announce: oldest first, not announced since `published_before` (None: in any case)."""
        conditions: list[Any] = [ScanJob.state == JobState.QUEUED, ScanJob.not_before <= now]
        if published_before is not None:
            conditions.append(or_(ScanJob.published_at.is_(None), ScanJob.published_at < published_before))
        return self._session.scalars(select(ScanJob.id).where(*conditions).order_by(ScanJob.id).limit(limit)).all()

    def mark_published(self, scan_id: str, now: datetime) -> None:
        self._session.execute(
            update(ScanJob)
            .where(ScanJob.id == scan_id, ScanJob.state == JobState.QUEUED)
            .values(published_at=now)
            .execution_options(synchronize_session=False)
        )


def _held(row: Row[datetime | None, int, int] | None) -> Held | None:
    return None if row is None else Held(row.cancel_requested_at is not None, row.attempt, row.released)


def attempt_counted(now: datetime) -> dict[str, Any]:
    """Values of a claim: one more attempt, and when the first one began."""
    return {"attempt": ScanJob.attempt + 1, "started_at": func.coalesce(ScanJob.started_at, now)}


def attempt_given_back() -> dict[str, Any]:
    """Values of a release: the attempt does not count against the cap."""
    return {"released": ScanJob.released + 1}


def owned_by(org_id: str) -> Condition:
    """Condition: the scan belongs to the organisation."""
    return ScanJob.org_id == org_id


def cancel_wanted() -> Condition:
    """Condition: somebody asked to cancel the scan."""
    return ScanJob.cancel_requested_at.is_not(None)


def cancel_not_wanted() -> Condition:
    """Condition: nobody asked to cancel the scan."""
    return ScanJob.cancel_requested_at.is_(None)


def startable(now: datetime) -> Condition:
    """Condition: its back-off is over."""
    return ScanJob.not_before <= now


def lease_expired(now: datetime) -> Condition:
    """Condition: the lease ended before `now`; false again once it was renewed."""
    return ScanJob.lease_expires_at < now
