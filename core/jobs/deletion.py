"""Deleting scans and models: rows first, then the bytes nobody needs any more."""

from core.errors import ConflictError
from core.jobs._parts import ServiceParts
from core.jobs.garbage import remove_unknown
from core.jobs.wording import model_not_found, scan_not_found
from core.registry.repositories.blobs import BlobRepository
from core.registry.repositories.manifests import ManifestRepository
from core.registry.repositories.models import ModelRepository
from core.registry.repositories.scans import ScanRecord, ScanRepository
from core.registry.session import Session


class Deletion(ServiceParts):
    """The only way results leave the registry. What the gate once answered stays on record."""

    def delete_scan(self, org_id: str, scan_id: str) -> None:
        """Delete a finished scan, its result, and what it produced unless another scan or an upload needs it.

        Raises:
            NotFoundError: `scan_not_found`.
            ConflictError: `scan_live`, cancel it first.
        """
        with self._db.begin() as session:
            self._db.lock_blobs(session, exclusive=True)
            record = ScanRepository(session).get(org_id, scan_id)
            if record is None:
                raise scan_not_found()
            _require_finished(record)
            children = _delete_rows(session, record)
            forgotten = BlobRepository(session).forget_unused(org_id, _produced(record), uploads_too=False)
            gone = BlobRepository(session).delete_unowned(forgotten)
            for child in children:
                ModelRepository(session).delete_if_forgotten(child)
        remove_unknown(self._db, self._store, gone)

    def delete_model(self, org_id: str, model_id: str) -> None:
        """Delete a model: its files, all its scans, what they produced, and reference sets no other scan uses.

        Models purified from it stay only where they were uploaded or scanned themselves.

        Raises:
            NotFoundError: `model_not_found`.
            ConflictError: `scan_live`, cancel its scans first.
        """
        with self._db.begin() as session:
            self._db.lock_blobs(session, exclusive=True)
            scans, models, blobs = ScanRepository(session), ModelRepository(session), BlobRepository(session)
            if models.get(org_id, model_id) is None:
                raise model_not_found()
            records = scans.of_checkpoint(org_id, model_id)
            for record in records:
                _require_finished(record)
            own = [file.sha256 for file, _ in models.files(model_id)]
            members = ManifestRepository(session).files_of(org_id, own)
            children: set[str] = set()
            for record in records:
                children.update(_delete_rows(session, record))
            used = [item.job.reference_sha256 for item in records if item.job.reference_sha256]
            produced = [sha256 for item in records for sha256 in _produced(item)]
            forgotten = blobs.forget_unused(org_id, produced, uploads_too=False)
            models.unlink(model_id)
            forgotten += blobs.forget_unused(org_id, [*own, *used], uploads_too=True)
            forgotten += blobs.forget_unused(org_id, members, uploads_too=True)  # after the manifests that name them
            models.delete(model_id)
            gone = blobs.delete_unowned(forgotten)
            for child in children:
                models.delete_if_forgotten(child)
        remove_unknown(self._db, self._store, gone)


def _require_finished(record: ScanRecord) -> None:
    if not record.job.state.is_terminal:
        raise ConflictError("scan_live", f"The scan {record.job.id} is not finished.", "Cancel it first.")


def _produced(record: ScanRecord) -> list[str]:
    return [item.sha256 for item, _ in record.artifacts]


def _delete_rows(session: Session, record: ScanRecord) -> list[str]:
    """Delete the scan; returns the models that were purified by it."""
    children = ModelRepository(session).children_of_scan(record.job.id)
    ScanRepository(session).delete(record.job.id)
    return children
