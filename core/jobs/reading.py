"""Questions an organisation may ask about its scans, models and blobs."""

from collections.abc import Sequence
from typing import Any

from core.domain import Verdict
from core.errors import InvalidInputError, NotFoundError
from core.jobs._parts import ServiceParts
from core.jobs.contents import to_hub_commit
from core.jobs.views import (
    ArtifactRecord,
    ArtifactView,
    ErrorView,
    EventView,
    ModelFile,
    ModelLink,
    ModelView,
    Page,
    ScanFilter,
    ScanView,
)
from core.jobs.wording import blob_not_found, model_not_found, scan_not_found
from core.registry.repositories.blobs import BlobRepository
from core.registry.repositories.manifests import ManifestRepository
from core.registry.repositories.models import ModelRepository
from core.registry.repositories.scans import ScanRecord, ScanRepository

MAX_PAGE = 200

_WORST_FIRST = (Verdict.BACKDOORED, Verdict.INCONCLUSIVE, Verdict.CLEAN)


def to_view(record: ScanRecord) -> ScanView:
    """The public form of a scan."""
    job, result = record.job, record.result
    error = None
    if job.error_code is not None:
        error = ErrorView(job.error_code, job.error_detail or "", job.error_hint or "")
    return ScanView(
        id=job.id,
        org_id=job.org_id,
        state=job.state,
        stage=job.stage,
        progress=job.progress,
        eta_s=job.eta_s,
        verdict=result.verdict if result else None,
        score=result.score if result else None,
        threshold=result.threshold if result else None,
        statistics=result.statistics if result else [],
        error=error,
        model_id=job.checkpoint_id,
        model_sha256=job.model_sha256,
        model_filename=job.model_filename,
        reference_sha256=job.reference_sha256,
        config=job.config,
        preset=job.preset,
        engine_version=job.engine_version,
        attempt=job.attempt,
        created_at=job.created_at,
        started_at=job.started_at,
        finished_at=job.finished_at,
        cancel_requested=job.cancel_requested_at is not None,
        purification_status=result.purification_status if result else None,
        artifacts=[
            ArtifactView(item.role, item.sha256, size, item.filename, item.media_type)
            for item, size in record.artifacts
        ],
        hub=None if record.hub is None else to_hub_commit(record.hub),
    )


class Reading(ServiceParts):
    """The read side of the job service. What another organisation owns is answered like what does not exist."""

    def get(self, org_id: str, scan_id: str) -> ScanView:
        """Raises NotFoundError (`scan_not_found`)."""
        with self._db.read() as session:
            record = ScanRepository(session).get(org_id, scan_id)
            if record is None:
                raise scan_not_found()
            return to_view(record)

    def list(
        self, org_id: str, filters: ScanFilter | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[ScanView]:
        """Scans, newest first. Pages stay put while new scans arrive.

        Args:
            limit: 1 to MAX_PAGE; other values are brought into that range.
            cursor: `next_cursor` of the page before.

        Raises:
            InvalidInputError: `invalid_cursor`.
        """
        filters = filters or ScanFilter()
        limit = min(max(limit, 1), MAX_PAGE)
        if cursor is not None and not (cursor.startswith("scan_") and len(cursor) <= 40 and cursor.isascii()):
            raise InvalidInputError("invalid_cursor", "This cursor is not one that a page gave.")
        with self._db.read() as session:
            records = ScanRepository(session).page(
                org_id,
                state=filters.state,
                verdict=filters.verdict,
                model_sha256=filters.model_sha256,
                before=cursor,
                limit=limit + 1,
            )
        items = [to_view(record) for record in records[:limit]]
        return Page(items, items[-1].id if len(records) > limit else None)

    def report(self, org_id: str, scan_id: str) -> dict[str, Any]:
        """The versioned JSON report.

        Raises:
            NotFoundError: `scan_not_found`, or `report_not_found` when the scan has no result (yet).
        """
        with self._db.read() as session:
            scans = ScanRepository(session)
            document = scans.report(org_id, scan_id)
            if document is not None:
                return document
            if scans.get(org_id, scan_id) is None:
                raise scan_not_found()
        raise NotFoundError("report_not_found", "This scan has no report.", "Only a scan that succeeded has one.")

    def events(self, org_id: str, scan_id: str, after: int = 0) -> Sequence[EventView]:
        """What happened to the scan since event number `after`. Raises NotFoundError (`scan_not_found`)."""
        with self._db.read() as session:
            scans = ScanRepository(session)
            if scans.get(org_id, scan_id) is None:
                raise scan_not_found()
            return [
                EventView(row.seq, row.attempt, row.created_at, row.payload)
                for row in scans.events(org_id, scan_id, after)
            ]

    def get_model(self, org_id: str, model_id: str) -> ModelView:
        """A model with its files, scans and lineage. Raises NotFoundError (`model_not_found`)."""
        with self._db.read() as session:
            models = ModelRepository(session)
            found = models.get(org_id, model_id)
            if found is None:
                raise model_not_found()
            files = [
                ModelFile(file.sha256, file.filename, size, size is not None) for file, size in models.files(model_id)
            ]
            named, manifests = files[0].sha256, ManifestRepository(session)
            if members := manifests.files(org_id, named):
                here = manifests.present(org_id, named)
                files = [ModelFile(file.sha256, file.path, file.size_bytes, file.sha256 in here) for file in members]
            return ModelView(
                id=found.id,
                org_id=found.org_id,
                kind=None if found.architecture is None else found.kind,
                sha256=named,
                architecture=found.architecture,
                num_targets=found.num_targets,
                created_at=found.created_at,
                files=files,
                scans=[to_view(record) for record in ScanRepository(session).of_checkpoint(org_id, model_id)],
                purified_from=[ModelLink(*link) for link in models.parents(model_id)],
                purified_to=[ModelLink(*link) for link in models.children(model_id)],
                hub=[to_hub_commit(row) for row in manifests.references(org_id, named)],
            )

    def has_blob(self, org_id: str, sha256: str) -> bool:
        """Whether the organisation has uploaded or produced this blob."""
        with self._db.read() as session:
            return BlobRepository(session).get(org_id, sha256) is not None

    def artifact(self, org_id: str, sha256: str) -> ArtifactRecord:
        """What to say about a blob that is to be downloaded. Raises NotFoundError (`blob_not_found`)."""
        with self._db.read() as session:
            blob = BlobRepository(session).get(org_id, sha256)
            if blob is None:
                raise blob_not_found()
            models = ModelRepository(session)
            verdicts = models.verdicts(org_id, sha256)
            produced = models.produced_by(org_id, sha256)
            verdicts.update(verdict for _, verdict in produced)
            worst = next((verdict for verdict in _WORST_FIRST if verdict in verdicts), None)
            newest = produced[0][0] if produced else None
            return ArtifactRecord(
                sha256=sha256,
                size_bytes=blob.size_bytes,
                filename=newest.filename if newest else f"{sha256}.bin",
                media_type=newest.media_type if newest else "application/octet-stream",
                role=newest.role if newest else None,
                produced_by=newest.scan_id if newest else None,
                model_verdict=worst,
            )
