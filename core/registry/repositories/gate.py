"""What the gate needs to know, and what it said."""

from datetime import datetime
from typing import Any

from sqlalchemy import or_, select

from core.domain import PURIFIED_ROLES, GateDecision
from core.registry.orm import CheckpointFile, GateDecisionRow, ScanArtifact, ScanJob, ScanResult
from core.registry.repositories._base import Repository


class GateRepository(Repository):
    """Evidence on a digest, and the log of answers."""

    def scans(self, org_id: str, sha256: str) -> list[tuple[ScanJob, ScanResult | None, dict[str, Any] | None]]:
        """All scans of `sha256` or of another file of the same checkpoint, newest first, each with its report."""
        own = CheckpointFile.__table__.alias("own")
        other = CheckpointFile.__table__.alias("other")
        siblings = (
            select(other.c.sha256)
            .join(own, own.c.checkpoint_id == other.c.checkpoint_id)
            .where(own.c.org_id == org_id, own.c.sha256 == sha256)
        )
        rows = self._session.execute(
            select(ScanJob, ScanResult, ScanResult.report)
            .outerjoin(ScanResult, ScanResult.scan_id == ScanJob.id)
            .where(ScanJob.org_id == org_id, or_(ScanJob.model_sha256 == sha256, ScanJob.model_sha256.in_(siblings)))
            .order_by(ScanJob.id.desc())
        )
        return [(job, result, report) for job, result, report in rows]

    def purifications(self, org_id: str, sha256: str) -> list[tuple[ScanJob, dict[str, Any]]]:
        """All scans that produced `sha256` as purified weights, newest first, each with its report."""
        produced = select(ScanArtifact.scan_id).where(
            ScanArtifact.sha256 == sha256, ScanArtifact.role.in_(PURIFIED_ROLES)
        )
        rows = self._session.execute(
            select(ScanJob, ScanResult.report)
            .join(ScanResult, ScanResult.scan_id == ScanJob.id)
            .where(ScanJob.org_id == org_id, ScanJob.id.in_(produced))
            .order_by(ScanJob.id.desc())
        )
        return [(job, report) for job, report in rows]

    def append(
        self,
        org_id: str,
        sha256: str,
        decision: GateDecision,
        *,
        allow: bool,
        reasons: list[str],
        engine_versions: list[str],
        now: datetime,
    ) -> None:
        self._session.add(
            GateDecisionRow(
                org_id=org_id,
                sha256=sha256,
                decision=decision,
                allow=allow,
                reasons=reasons,
                engine_versions=engine_versions,
                created_at=now,
            )
        )
