"""Uploads that arrive in several goes."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, select, update

from core.registry.orm import BlobRow, Org, OrgBlob, Upload
from core.registry.repositories._base import Repository


class UploadRepository(Repository):
    """Rows of uploads; the bytes are the store's business."""

    def add(self, **values: Any) -> Upload:
        row = Upload(**values)
        self._session.add(row)
        self._session.flush()
        return row

    def get(self, org_id: str, upload_id: str, now: datetime) -> Upload | None:
        """The upload unless it is somebody else's or has expired."""
        return self._session.scalar(
            select(Upload).where(Upload.org_id == org_id, Upload.id == upload_id, Upload.expires_at > now)
        )

    def open_of_org(self, org_id: str, now: datetime) -> Sequence[Upload]:
        """Not complete and not expired, newest first."""
        return self._session.scalars(
            select(Upload)
            .where(Upload.org_id == org_id, Upload.blob_sha256.is_(None), Upload.expires_at > now)
            .order_by(Upload.id.desc())
        ).all()

    def lock_org(self, org_id: str) -> None:
        """Until the transaction ends, nobody else counts what this organisation has. SQLite has one writer anyway."""
        self._session.execute(select(Org.id).where(Org.id == org_id).with_for_update())

    def usage(self, org_id: str, now: datetime) -> tuple[int, int]:
        """(open uploads, bytes): what is stored for the organisation and what its open uploads have announced."""
        count, announced = self._session.execute(
            select(func.count(), func.coalesce(func.sum(Upload.length), 0)).where(
                Upload.org_id == org_id, Upload.blob_sha256.is_(None), Upload.expires_at > now
            )
        ).one()
        stored = self._session.scalar(
            select(func.coalesce(func.sum(BlobRow.size_bytes), 0))
            .join(OrgBlob, OrgBlob.sha256 == BlobRow.sha256)
            .where(OrgBlob.org_id == org_id)
        )
        return int(count), int(announced) + int(stored or 0)

    def extend(self, org_id: str, upload_id: str, now: datetime, expires_at: datetime) -> bool:
        """Let it live on; False if it has expired, is complete, or is gone."""
        found = self._session.execute(
            update(Upload)
            .where(
                Upload.org_id == org_id, Upload.id == upload_id, Upload.blob_sha256.is_(None), Upload.expires_at > now
            )
            .values(expires_at=expires_at)
            .returning(Upload.id)
        )
        return found.first() is not None

    def complete(self, org_id: str, upload_id: str, sha256: str) -> bool:
        """Note which blob it became; False if it is gone."""
        found = self._session.execute(
            update(Upload)
            .where(Upload.org_id == org_id, Upload.id == upload_id)
            .values(blob_sha256=sha256)
            .returning(Upload.id)
        )
        return found.first() is not None

    def expired(self, now: datetime) -> Sequence[Upload]:
        return self._session.scalars(select(Upload).where(Upload.expires_at <= now)).all()

    def delete(self, upload_id: str) -> None:
        self._session.execute(delete(Upload).where(Upload.id == upload_id))

    def known(self, ids: Sequence[str]) -> set[str]:
        """Those of `ids` that have a row and are not complete."""
        return set(self._session.scalars(select(Upload.id).where(Upload.id.in_(ids), Upload.blob_sha256.is_(None))))
