"""Uploads that arrive in several goes: begun, gone on with, completed, given up.

The row says whose upload it is and what was announced, the store how much is here. Whoever writes holds the store's
lock; nothing here trusts an offset that was read before the lock was taken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.errors import (
    ConflictError,
    InvalidInputError,
    LockedError,
    NotFoundError,
    QuotaError,
    TooLargeError,
    UnavailableError,
)
from core.jobs._parts import ServiceParts
from core.registry.ids import new_id
from core.registry.orm import Upload
from core.registry.repositories.blobs import BlobRepository
from core.registry.repositories.uploads import UploadRepository
from core.registry.session import Session
from core.storage.protocol import PartialBlob

#: Bytes without a row are left-overs of a crash only if nobody wrote to them for so long.
_ORPHAN_S = 3600.0
_BATCH = 500


@dataclass(frozen=True, slots=True)
class NewUpload:
    """What a client announces."""

    length: int  # bytes in all
    sha256: str | None  # if given, other bytes are not kept
    filename: str
    client_metadata: str = ""


@dataclass(frozen=True, slots=True)
class UploadView:
    """An upload as its organisation sees it."""

    id: str
    org_id: str
    length: int
    offset: int  # bytes that are here
    sha256: str | None  # as announced
    filename: str
    client_metadata: str
    blob_sha256: str | None  # set once it is complete
    created_at: datetime
    expires_at: datetime


class Uploads(ServiceParts):
    """Everything that happens to an upload before it is a blob."""

    def create_upload(self, org_id: str, new: NewUpload) -> UploadView:
        """Begin an upload.

        Raises:
            TooLargeError: `too_large`, longer than a file may be.
            QuotaError: `too_many_uploads`, or `quota_exceeded`: it and what is stored already are too much.
        """
        limit = self._settings.max_upload_bytes
        if new.length > limit:
            raise TooLargeError(
                "too_large",
                f"The upload is larger than the limit of {limit} bytes.",
                "The limit is the setting ASSAY_MAX_UPLOAD_BYTES of the server.",
            )
        with self._db.begin() as session:
            now = self._db.now(session)
            uploads = UploadRepository(session)
            uploads.lock_org(org_id)
            self._check_quota(session, org_id, new.length, now, opens=True)
            row = uploads.add(
                id=new_id("upload", now),
                org_id=org_id,
                length=new.length,
                sha256=new.sha256,
                filename=new.filename,
                client_metadata=new.client_metadata,
                created_at=now,
                expires_at=now + self._lifetime,
            )
            return _view(row, 0)

    def check_stored_quota(self, org_id: str, more_bytes: int) -> None:
        """Raises QuotaError (`quota_exceeded`) if the organisation may not store so much more."""
        with self._db.read() as session:
            self._check_quota(session, org_id, more_bytes, self._db.now(session), opens=False)

    def upload(self, org_id: str, upload_id: str) -> UploadView:
        """Where an upload stands. Raises NotFoundError (`upload_not_found`), also when it has expired."""
        with self._db.read() as session:
            row = UploadRepository(session).get(org_id, upload_id, self._db.now(session))
            if row is None:
                raise _not_found()
            return _view(row, self._offset_of(row))

    def open_uploads(self, org_id: str) -> list[UploadView]:
        """Those that can be gone on with, newest first."""
        with self._db.read() as session:
            rows = UploadRepository(session).open_of_org(org_id, self._db.now(session))
            return [_view(row, self._offset_of(row)) for row in rows]

    @contextmanager
    def write_upload(self, org_id: str, upload_id: str) -> Iterator[tuple[UploadView, PartialBlob]]:
        """The upload and the only right to write to it; its life is extended.

        Raises:
            NotFoundError: `upload_not_found`.
            LockedError: `upload_locked`, another request is writing to it.
            ConflictError: `upload_complete`, nothing can be added.
        """
        view = self.upload(org_id, upload_id)
        if view.blob_sha256 is not None:
            raise ConflictError("upload_complete", "The upload is complete.")
        with self._store.partial(upload_id, view.length) as partial:
            with self._db.begin() as session:
                now = self._db.now(session)
                uploads = UploadRepository(session)
                extended = uploads.extend(org_id, upload_id, now, now + self._lifetime)
                row = uploads.get(org_id, upload_id, now)
            if row is None:
                partial.discard()
                raise _not_found()
            if not extended:  # another request completed it before the lock was ours
                partial.discard()
                raise ConflictError("upload_complete", "The upload is complete.")
            yield _view(row, partial.size), partial

    def complete_upload(self, view: UploadView, partial: PartialBlob) -> UploadView:
        """Make a blob of an upload whose last byte is here. Safe to repeat after a crash at any point.

        Raises:
            InvalidInputError: `digest_mismatch`; the upload is gone.
            StorageFullError, UnavailableError: the upload stays; asking again helps.
        """
        try:
            blob = partial.commit(view.sha256)
        except InvalidInputError:
            with self._db.begin() as session:
                UploadRepository(session).delete(view.id)
            raise
        with self._db.begin() as session:
            self._db.lock_blobs(session, exclusive=False)
            now, uploads = self._db.now(session), UploadRepository(session)
            if not self._store.exists(blob.sha256):
                raise UnavailableError("blob_vanished", "The file was removed while it was stored.", "Ask again.")
            BlobRepository(session).register(view.org_id, blob.sha256, blob.size_bytes, now, uploaded=True)
            uploads.complete(view.org_id, view.id, blob.sha256)
            row = uploads.get(view.org_id, view.id, now)
        partial.discard()
        if row is None:
            raise _not_found()
        return _view(row, row.length)

    def settle_upload(self, org_id: str, upload_id: str) -> UploadView:
        """Where an upload stands, after finishing what a crash may have left: all bytes here and no blob.

        Raises as upload() and complete_upload().
        """
        view = self.upload(org_id, upload_id)
        if view.blob_sha256 is not None or view.offset < view.length:
            return view
        try:
            with self.write_upload(org_id, upload_id) as (view, partial):
                return self.complete_upload(view, partial)
        except LockedError:  # whoever wrote the last byte is completing it
            return view
        except ConflictError:  # completed meanwhile
            return self.upload(org_id, upload_id)

    def delete_upload(self, org_id: str, upload_id: str) -> None:
        """Give an upload up; a blob that it has become stays.

        Raises:
            NotFoundError: `upload_not_found`.
            LockedError: `upload_locked`, a request is writing to it.
        """
        view = self.upload(org_id, upload_id)
        self._remove(view.id, view.length)

    def expire_uploads(self) -> int:
        """Remove uploads whose time is over, and bytes that no upload knows; returns how many. For the sweeper."""
        with self._db.read() as session:
            expired = [(row.id, row.length) for row in UploadRepository(session).expired(self._db.now(session))]
        removed = 0
        for upload_id, length in expired:
            try:
                self._remove(upload_id, length)
            except LockedError:  # still being written to: the next round's
                continue
            removed += 1
        return removed + self._remove_orphans()

    def _remove(self, upload_id: str, length: int) -> None:
        """The row first: what is left after a crash in between is an orphan."""
        with self._store.partial(upload_id, length) as partial:
            with self._db.begin() as session:
                UploadRepository(session).delete(upload_id)
            partial.discard()

    def _remove_orphans(self) -> int:
        names = list(self._store.partial_names(_ORPHAN_S))
        removed = 0
        for start in range(0, len(names), _BATCH):
            batch = names[start : start + _BATCH]
            with self._db.read() as session:
                known = UploadRepository(session).known(batch)
            for name in set(batch) - known:
                try:
                    self._store.partial(name, 0).discard()
                except (LockedError, NotFoundError, InvalidInputError):  # in use, gone, or no file of ours
                    continue
                removed += 1
        return removed

    def _check_quota(self, session: Session, org_id: str, more_bytes: int, now: datetime, *, opens: bool) -> None:
        count, used = UploadRepository(session).usage(org_id, now)
        if opens and count >= self._settings.max_open_uploads:
            raise QuotaError(
                "too_many_uploads",
                f"There are {count} open uploads already.",
                "Complete or DELETE some of them (GET /v1/uploads lists them), or wait until they expire.",
            )
        limit = self._settings.max_stored_bytes
        if limit and used + more_bytes > limit:
            raise QuotaError(
                "quota_exceeded",
                f"{used} of {limit} bytes are used, and this needs {more_bytes} more.",
                "Delete models that are not needed any more, or ask the operator for more (ASSAY_MAX_STORED_BYTES).",
            )

    def _offset_of(self, row: Upload) -> int:
        return row.length if row.blob_sha256 is not None else self._store.partial_size(row.id)

    @property
    def _lifetime(self) -> timedelta:
        return timedelta(seconds=self._settings.upload_expiry_s)


def _not_found() -> NotFoundError:
    return NotFoundError("upload_not_found", "There is no such upload.")


def _view(row: Upload, offset: int) -> UploadView:
    return UploadView(
        id=row.id,
        org_id=row.org_id,
        length=row.length,
        offset=offset,
        sha256=row.sha256,
        filename=row.filename,
        client_metadata=row.client_metadata,
        blob_sha256=row.blob_sha256,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )
