"""Models: their files and where they come from."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, exists, select, update

from core.domain import ModelKind, Verdict
from core.registry.ids import new_id
from core.registry.orm import (
    BlobRow,
    Checkpoint,
    CheckpointFile,
    Lineage,
    OrgBlob,
    ScanArtifact,
    ScanJob,
    ScanResult,
)
from core.registry.repositories._base import Repository


class ModelRepository(Repository):
    """Checkpoints, their files, and lineage."""

    def ensure(self, org_id: str, files: Sequence[tuple[str, str]], kind: ModelKind, now: datetime) -> str:
        """The checkpoint that has the first known of `files` ((sha256, filename), ...), else a new one with all.

        Files that are not known yet are added to it.
        """
        checkpoint_id: str | None = None
        for sha256, _ in files:
            checkpoint_id = checkpoint_id or self.find(org_id, sha256)
        if checkpoint_id is None:
            fresh = new_id("model", now)
            self._session.add(Checkpoint(id=fresh, org_id=org_id, kind=kind, created_at=now))
            self._session.flush()
            if self._add_file(org_id, fresh, *files[0], 0):
                checkpoint_id = fresh
            else:  # somebody else was faster: use theirs
                self._session.execute(delete(Checkpoint).where(Checkpoint.id == fresh))
                checkpoint_id = self.find(org_id, files[0][0])
                assert checkpoint_id is not None
        for position, (sha256, filename) in enumerate(files):
            self._add_file(org_id, checkpoint_id, sha256, filename, position)
        return checkpoint_id

    def _add_file(self, org_id: str, checkpoint_id: str, sha256: str, filename: str, position: int) -> bool:
        return self._insert_new(
            CheckpointFile,
            checkpoint_id=checkpoint_id,
            sha256=sha256,
            org_id=org_id,
            filename=filename,
            position=position,
        )

    def find(self, org_id: str, sha256: str) -> str | None:
        """The id of the checkpoint one of whose files is `sha256`."""
        return self._session.scalar(
            select(CheckpointFile.checkpoint_id).where(CheckpointFile.org_id == org_id, CheckpointFile.sha256 == sha256)
        )

    def get(self, org_id: str, model_id: str) -> Checkpoint | None:
        return self._session.scalar(
            select(Checkpoint)
            .where(Checkpoint.org_id == org_id, Checkpoint.id == model_id)
            .execution_options(populate_existing=True)
        )

    def files(self, model_id: str) -> list[tuple[CheckpointFile, int | None]]:
        """Each file with its size, or None if its bytes are gone for this organisation."""
        rows = self._session.execute(
            select(CheckpointFile, BlobRow.size_bytes)
            .outerjoin(OrgBlob, (OrgBlob.org_id == CheckpointFile.org_id) & (OrgBlob.sha256 == CheckpointFile.sha256))
            .outerjoin(BlobRow, BlobRow.sha256 == OrgBlob.sha256)
            .where(CheckpointFile.checkpoint_id == model_id)
            .order_by(CheckpointFile.position, CheckpointFile.sha256)
        )
        return [(file, size) for file, size in rows]

    def describe(self, model_id: str, kind: ModelKind, architecture: str, num_targets: int) -> None:
        """Note what a scan found out about the model."""
        self._session.execute(
            update(Checkpoint)
            .where(Checkpoint.id == model_id)
            .values(kind=kind, architecture=architecture, num_targets=num_targets)
            .execution_options(synchronize_session=False)
        )

    def link(self, child_id: str, parent_id: str, scan_id: str) -> None:
        """`child` was purified from `parent`; weights that did not change are no child of themselves."""
        if child_id != parent_id:
            self._insert_new(Lineage, child_id=child_id, parent_id=parent_id, scan_id=scan_id)

    def parents(self, model_id: str) -> list[tuple[str, str, str]]:
        """(model id, sha256 of its first file, scan id) of what it was purified from, newest first."""
        return self._links(Lineage.parent_id, Lineage.child_id == model_id)

    def children(self, model_id: str) -> list[tuple[str, str, str]]:
        """(model id, sha256 of its first file, scan id) of what was purified from it, newest first."""
        return self._links(Lineage.child_id, Lineage.parent_id == model_id)

    def children_of_scan(self, scan_id: str) -> list[str]:
        return list(self._session.scalars(select(Lineage.child_id).where(Lineage.scan_id == scan_id)))

    def _links(self, other: Any, condition: Any) -> list[tuple[str, str, str]]:
        rows = self._session.execute(
            select(other, CheckpointFile.sha256, Lineage.scan_id)
            .join(CheckpointFile, CheckpointFile.checkpoint_id == other)
            .where(condition, CheckpointFile.position == 0)
            .order_by(Lineage.scan_id.desc())
        )
        return [(model_id, sha256, scan_id) for model_id, sha256, scan_id in rows]

    def unlink(self, model_id: str) -> None:
        """Forget where the model comes from and what came from it."""
        self._session.execute(delete(Lineage).where((Lineage.child_id == model_id) | (Lineage.parent_id == model_id)))

    def delete(self, model_id: str) -> None:
        """Remove the checkpoint; it must have no scans and no lineage."""
        self._session.execute(delete(CheckpointFile).where(CheckpointFile.checkpoint_id == model_id))
        self._session.execute(delete(Checkpoint).where(Checkpoint.id == model_id))

    def delete_if_forgotten(self, model_id: str) -> None:
        """Remove the checkpoint if nothing refers to it and none of its files is there any more."""
        stays = (
            exists().where(ScanJob.checkpoint_id == model_id),
            exists().where(Lineage.child_id == model_id),
            exists().where(Lineage.parent_id == model_id),
            exists()
            .where(OrgBlob.org_id == CheckpointFile.org_id, OrgBlob.sha256 == CheckpointFile.sha256)
            .where(CheckpointFile.checkpoint_id == model_id),
        )
        if not any(self._session.scalar(select(condition)) for condition in stays):
            self.delete(model_id)

    def produced_by(self, org_id: str, sha256: str) -> list[tuple[ScanArtifact, Verdict]]:
        """(artifact, verdict) of the scans that produced `sha256`, newest first."""
        rows = self._session.execute(
            select(ScanArtifact, ScanResult.verdict)
            .join(ScanJob, ScanJob.id == ScanArtifact.scan_id)
            .join(ScanResult, ScanResult.scan_id == ScanJob.id)
            .where(ScanJob.org_id == org_id, ScanArtifact.sha256 == sha256)
            .order_by(ScanJob.id.desc())
        )
        return [(artifact, verdict) for artifact, verdict in rows]

    def verdicts(self, org_id: str, sha256: str) -> set[Verdict]:
        """All verdicts on `sha256` itself."""
        return set(
            self._session.scalars(
                select(ScanResult.verdict)
                .join(ScanJob, ScanJob.id == ScanResult.scan_id)
                .where(ScanJob.org_id == org_id, ScanJob.model_sha256 == sha256)
            )
        )
