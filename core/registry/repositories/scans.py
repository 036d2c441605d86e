"""Scans as their organisation sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select

from core.domain import JobState, Verdict
from core.registry.orm import BlobRow, HubReference, Lineage, ScanArtifact, ScanEvent, ScanJob, ScanResult
from core.registry.repositories._base import Repository


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan with what it produced (artifacts with their sizes), and the Hub reference that named its model."""

    job: ScanJob
    result: ScanResult | None
    artifacts: list[tuple[ScanArtifact, int]]
    hub: HubReference | None


class ScanRepository(Repository):
    """Reading, inserting and deleting scans."""

    def insert(self, **values: Any) -> bool:
        """Insert a queued scan; False if an equal one is live."""
        return self._insert_new(ScanJob, **values)

    def find_live(self, org_id: str, content_key: str) -> str | None:
        """The oldest unfinished scan of this content that nobody wants canceled."""
        return self._session.scalar(
            select(ScanJob.id)
            .where(
                ScanJob.org_id == org_id,
                ScanJob.content_key == content_key,
                ScanJob.state.in_([JobState.QUEUED, JobState.RUNNING]),
                ScanJob.cancel_requested_at.is_(None),
            )
            .order_by(ScanJob.id)
            .limit(1)
        )

    def find_succeeded(self, org_id: str, content_key: str) -> str | None:
        """The newest result of this content."""
        return self._session.scalar(
            select(ScanJob.id)
            .where(
                ScanJob.org_id == org_id,
                ScanJob.content_key == content_key,
                ScanJob.state == JobState.SUCCEEDED,
            )
            .order_by(ScanJob.id.desc())
            .limit(1)
        )

    def get(self, org_id: str, scan_id: str) -> ScanRecord | None:
        found = self._records(ScanJob.org_id == org_id, ScanJob.id == scan_id)
        return found[0] if found else None

    def page(
        self,
        org_id: str,
        *,
        state: JobState | None = None,
        verdict: Verdict | None = None,
        model_sha256: str | None = None,
        before: str | None = None,
        limit: int,
    ) -> list[ScanRecord]:
        """Newest first, from the first id below `before` on."""
        conditions: list[Any] = [ScanJob.org_id == org_id]
        if state is not None:
            conditions.append(ScanJob.state == state)
        if verdict is not None:
            conditions.append(ScanResult.verdict == verdict)
        if model_sha256 is not None:
            conditions.append(ScanJob.model_sha256 == model_sha256)
        if before is not None:
            conditions.append(ScanJob.id < before)
        return self._records(*conditions, limit=limit)

    def of_checkpoint(self, org_id: str, checkpoint_id: str) -> list[ScanRecord]:
        """Newest first."""
        return self._records(ScanJob.org_id == org_id, ScanJob.checkpoint_id == checkpoint_id)

    def _records(self, *conditions: Any, limit: int | None = None) -> list[ScanRecord]:
        rows = self._session.execute(
            select(ScanJob, ScanResult, HubReference)
            .outerjoin(ScanResult, ScanResult.scan_id == ScanJob.id)
            .outerjoin(HubReference, HubReference.id == ScanJob.hub_reference_id)
            .where(*conditions)
            .order_by(ScanJob.id.desc())
            .limit(limit)
            .execution_options(populate_existing=True)
        ).all()
        artifacts: dict[str, list[tuple[ScanArtifact, int]]] = {}
        for artifact, size in self._session.execute(
            select(ScanArtifact, BlobRow.size_bytes)
            .join(BlobRow, BlobRow.sha256 == ScanArtifact.sha256)
            .where(ScanArtifact.scan_id.in_([job.id for job, _, _ in rows]))
            .order_by(ScanArtifact.position)
        ):
            artifacts.setdefault(artifact.scan_id, []).append((artifact, size))
        return [ScanRecord(job, result, artifacts.get(job.id, []), hub) for job, result, hub in rows]

    def report(self, org_id: str, scan_id: str) -> dict[str, Any] | None:
        return self._session.scalar(
            select(ScanResult.report)
            .join(ScanJob, ScanJob.id == ScanResult.scan_id)
            .where(ScanJob.org_id == org_id, ScanJob.id == scan_id)
        )

    def events(self, org_id: str, scan_id: str, after: int) -> Sequence[ScanEvent]:
        return self._session.scalars(
            select(ScanEvent)
            .join(ScanJob, ScanJob.id == ScanEvent.scan_id)
            .where(ScanJob.org_id == org_id, ScanJob.id == scan_id, ScanEvent.seq > after)
            .order_by(ScanEvent.seq)
        ).all()

    def add_result(self, result: ScanResult, artifacts: Sequence[ScanArtifact]) -> None:
        self._session.add(result)
        self._session.add_all(artifacts)
        self._session.flush()

    def delete(self, scan_id: str) -> None:
        """Remove the scan and every row that hangs on it."""
        for kind in (Lineage, ScanArtifact, ScanResult, ScanEvent):
            self._session.execute(delete(kind).where(kind.scan_id == scan_id))
        self._session.execute(delete(ScanJob).where(ScanJob.id == scan_id))
