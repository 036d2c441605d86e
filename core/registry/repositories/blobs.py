"""Which blobs there are and whose they are."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, exists, select, union_all, update

from core.registry.orm import BlobRow, ManifestFileRow, OrgBlob, ReferenceSetRow, ScanArtifact, ScanJob
from core.registry.repositories._base import Repository


@dataclass(frozen=True, slots=True)
class OrgBlobRecord:
    """A blob as one organisation knows it."""

    sha256: str
    size_bytes: int
    uploaded: bool


class BlobRepository(Repository):
    """Rows of blobs; the bytes are the store's business."""

    def register(self, org_id: str, sha256: str, size_bytes: int, now: datetime, *, uploaded: bool) -> None:
        """Let the organisation know the blob; repeating it changes nothing, except that an upload stays one."""
        self._insert_new(BlobRow, sha256=sha256, size_bytes=size_bytes, created_at=now)
        new = self._insert_new(OrgBlob, org_id=org_id, sha256=sha256, uploaded=uploaded, created_at=now)
        if uploaded and not new:
            self._session.execute(
                update(OrgBlob).where(OrgBlob.org_id == org_id, OrgBlob.sha256 == sha256).values(uploaded=True)
            )

    def get(self, org_id: str, sha256: str) -> OrgBlobRecord | None:
        row = self._session.execute(
            select(OrgBlob.sha256, BlobRow.size_bytes, OrgBlob.uploaded)
            .join(BlobRow, BlobRow.sha256 == OrgBlob.sha256)
            .where(OrgBlob.org_id == org_id, OrgBlob.sha256 == sha256)
        ).first()
        return OrgBlobRecord(row.sha256, row.size_bytes, row.uploaded) if row else None

    def forget_unused(self, org_id: str, digests: Iterable[str], *, uploads_too: bool) -> list[str]:
        """Take from the organisation those of `digests` that no scan, manifest or reference set needs; says which.

        What a forgotten manifest says is forgotten with it.

        Without `uploads_too`, what it uploaded itself stays.
        """
        forgotten = []
        for sha256 in sorted(set(digests)):
            used = union_all(
                select(ScanJob.id).where(ScanJob.org_id == org_id, ScanJob.model_sha256 == sha256),
                select(ScanJob.id).where(ScanJob.org_id == org_id, ScanJob.reference_sha256 == sha256),
                select(ScanJob.id)
                .join(ScanArtifact, ScanArtifact.scan_id == ScanJob.id)
                .where(ScanJob.org_id == org_id, ScanArtifact.sha256 == sha256),
                select(ReferenceSetRow.id).where(ReferenceSetRow.org_id == org_id, ReferenceSetRow.sha256 == sha256),
                select(ManifestFileRow.path).where(ManifestFileRow.org_id == org_id, ManifestFileRow.sha256 == sha256),
            )
            statement = delete(OrgBlob).where(
                OrgBlob.org_id == org_id, OrgBlob.sha256 == sha256, ~exists(used.subquery().select())
            )
            if not uploads_too:
                statement = statement.where(~OrgBlob.uploaded)
            if self._session.execute(statement.returning(OrgBlob.sha256)).first():
                forgotten.append(sha256)
        return forgotten

    def delete_unowned(self, digests: Collection[str]) -> list[str]:
        """Delete the rows of those of `digests` that no organisation has any more; returns which."""
        statement = (
            delete(BlobRow)
            .where(BlobRow.sha256.in_(digests), ~exists().where(OrgBlob.sha256 == BlobRow.sha256))
            .returning(BlobRow.sha256)
            .execution_options(synchronize_session=False)
        )
        return list(self._session.scalars(statement))

    def known(self, digests: Collection[str]) -> set[str]:
        """Those of `digests` that have a row."""
        return set(self._session.scalars(select(BlobRow.sha256).where(BlobRow.sha256.in_(digests))))

    def all(self) -> list[tuple[str, int]]:
        """(sha256, size_bytes) of every blob there should be."""
        rows = self._session.execute(select(BlobRow.sha256, BlobRow.size_bytes).order_by(BlobRow.sha256))
        return [(row.sha256, row.size_bytes) for row in rows]
