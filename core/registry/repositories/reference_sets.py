"""Reference sets by name."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, select

from core.registry.orm import BlobRow, ReferenceSetRow
from core.registry.repositories._base import Repository


class ReferenceSetRepository(Repository):
    """Rows of reference sets; their bytes are blobs."""

    def insert(self, **values: Any) -> bool:
        """False if the organisation has a set of that name."""
        return self._insert_new(ReferenceSetRow, **values)

    def get(self, org_id: str, set_id: str) -> tuple[ReferenceSetRow, int] | None:
        """The set and the size of its archive."""
        row = self._session.execute(
            select(ReferenceSetRow, BlobRow.size_bytes)
            .join(BlobRow, BlobRow.sha256 == ReferenceSetRow.sha256)
            .where(ReferenceSetRow.org_id == org_id, ReferenceSetRow.id == set_id)
        ).first()
        return (row[0], row[1]) if row else None

    def named(self, org_id: str, name: str) -> ReferenceSetRow | None:
        return self._session.scalar(
            select(ReferenceSetRow).where(ReferenceSetRow.org_id == org_id, ReferenceSetRow.name == name)
        )

    def of_org(self, org_id: str, limit: int, before: str | None) -> Sequence[tuple[ReferenceSetRow, int]]:
        """Newest first, with sizes; `before` is the id the page starts behind."""
        statement = (
            select(ReferenceSetRow, BlobRow.size_bytes)
            .join(BlobRow, BlobRow.sha256 == ReferenceSetRow.sha256)
            .where(ReferenceSetRow.org_id == org_id)
        )
        if before is not None:
            statement = statement.where(ReferenceSetRow.id < before)
        rows = self._session.execute(statement.order_by(ReferenceSetRow.id.desc()).limit(limit))
        return [(row[0], row[1]) for row in rows]

    def delete(self, set_id: str) -> None:
        self._session.execute(delete(ReferenceSetRow).where(ReferenceSetRow.id == set_id))
