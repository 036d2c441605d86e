"""Reference sets as things of their own: named, looked through once, used by many scans."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.errors import ConflictError, NotFoundError
from core.jobs._parts import ServiceParts
from core.jobs.garbage import remove_unknown
from core.jobs.views import Page
from core.jobs.wording import blob_not_found
from core.registry.ids import new_id
from core.registry.orm import ReferenceSetRow
from core.registry.repositories.blobs import BlobRepository
from core.registry.repositories.reference_sets import ReferenceSetRepository


@dataclass(frozen=True, slots=True)
class NewReferenceSet:
    """A set that was looked through; its archive is a blob of the organisation."""

    name: str
    sha256: str
    source: dict[str, Any]  # where it comes from, for people
    facts: dict[str, Any]  # core.report.reference.ReferenceFacts


@dataclass(frozen=True, slots=True)
class ReferenceSetView:
    """A set as its organisation sees it."""

    id: str
    org_id: str
    name: str
    sha256: str
    size_bytes: int
    source: dict[str, Any]
    facts: dict[str, Any]
    created_at: datetime


class ReferenceSets(ServiceParts):
    """The only way reference sets come and go."""

    def create_reference_set(self, org_id: str, new: NewReferenceSet) -> tuple[ReferenceSetView, bool]:
        """The set, and whether it is new: the same name for the same bytes is the same set.

        Raises:
            NotFoundError: `blob_not_found`, the archive is no blob of the organisation.
            ConflictError: `reference_set_exists`, the name stands for other images.
        """
        with self._db.begin() as session:
            self._db.lock_blobs(session, exclusive=False)
            now, sets = self._db.now(session), ReferenceSetRepository(session)
            if BlobRepository(session).get(org_id, new.sha256) is None:
                raise blob_not_found()
            created = sets.insert(
                id=new_id("refset", now),
                org_id=org_id,
                name=new.name,
                sha256=new.sha256,
                source=new.source,
                facts=new.facts,
                created_at=now,
            )
            row = sets.named(org_id, new.name)
            assert row is not None
            if row.sha256 != new.sha256:
                raise ConflictError(
                    "reference_set_exists",
                    "There is a reference set of that name with other images.",
                    f"Choose another name, or DELETE /v1/reference-sets/{row.id} first.",
                )
            found = sets.get(org_id, row.id)
            assert found is not None
            return _view(*found), created

    def reference_set(self, org_id: str, set_id: str) -> ReferenceSetView:
        """Raises NotFoundError (`reference_set_not_found`)."""
        with self._db.read() as session:
            found = ReferenceSetRepository(session).get(org_id, set_id)
        if found is None:
            raise reference_set_not_found()
        return _view(*found)

    def reference_sets(self, org_id: str, limit: int, cursor: str | None = None) -> Page[ReferenceSetView]:
        """Newest first. `cursor` is the id of the last set of the page before."""
        with self._db.read() as session:
            rows = ReferenceSetRepository(session).of_org(org_id, limit + 1, cursor)
        items = [_view(*row) for row in rows[:limit]]
        return Page(items, items[-1].id if len(rows) > limit else None)

    def delete_reference_set(self, org_id: str, set_id: str) -> None:
        """Delete a set, and its images unless a scan or another set has them. Scans that used it keep working.

        Raises:
            NotFoundError: `reference_set_not_found`.
        """
        with self._db.begin() as session:
            self._db.lock_blobs(session, exclusive=True)
            sets, blobs = ReferenceSetRepository(session), BlobRepository(session)
            found = sets.get(org_id, set_id)
            if found is None:
                raise reference_set_not_found()
            sets.delete(set_id)
            forgotten = blobs.forget_unused(org_id, [found[0].sha256], uploads_too=True)
            gone = blobs.delete_unowned(forgotten)
        remove_unknown(self._db, self._store, gone)


def reference_set_not_found() -> NotFoundError:
    """The one answer for sets that do not exist and for other organisations' sets."""
    return NotFoundError("reference_set_not_found", "There is no such reference set.")


def _view(row: ReferenceSetRow, size_bytes: int) -> ReferenceSetView:
    return ReferenceSetView(
        id=row.id,
        org_id=row.org_id,
        name=row.name,
        sha256=row.sha256,
        size_bytes=size_bytes,
        source=row.source,
        facts=row.facts,
        created_at=row.created_at,
    )
