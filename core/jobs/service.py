"""The job service: submit, read, cancel, judge and delete scans; claims and leases are in core/jobs/leases.py.

The row in the database is the job. Nothing here publishes messages: callers do so after the commit.
"""

import hashlib

from core import ENGINE_VERSION
from core.domain import JobState, ModelKind
from core.errors import ConflictError, UnavailableError
from core.jobs.contents import Contents
from core.jobs.deletion import Deletion
from core.jobs.garbage import StoreCheck, fsck
from core.jobs.judging import Judging
from core.jobs.leases import Leases
from core.jobs.reading import Reading, to_view
from core.jobs.reference_sets import ReferenceSets
from core.jobs.state import CANCEL_QUEUED
from core.jobs.uploads import Uploads
from core.jobs.views import (
    ArtifactRecord,
    ArtifactView,
    ClaimedJob,
    ErrorView,
    EventView,
    HubCommit,
    ModelContents,
    ModelFile,
    ModelLink,
    ModelView,
    Page,
    Renewal,
    ScanFilter,
    ScanView,
    SubmitScan,
    Submitted,
)
from core.jobs.wording import blob_not_found, scan_not_found
from core.policy.gate import GateAnswer, GateReason
from core.registry.ids import new_id
from core.registry.repositories.blobs import BlobRepository
from core.registry.repositories.leases import LeaseRepository, owned_by
from core.registry.repositories.models import ModelRepository
from core.registry.repositories.scans import ScanRepository
from core.storage.protocol import Blob

__all__ = [
    "ArtifactRecord",
    "ArtifactView",
    "ClaimedJob",
    "ErrorView",
    "EventView",
    "GateAnswer",
    "GateReason",
    "HubCommit",
    "JobService",
    "ModelContents",
    "ModelFile",
    "ModelLink",
    "ModelView",
    "Page",
    "Renewal",
    "ScanFilter",
    "ScanView",
    "SubmitScan",
    "Submitted",
]

_SUBMIT_TRIES = 5


class JobService(Reading, Contents, Leases, Judging, Deletion, Uploads, ReferenceSets):
    """Everything that happens to scans. Each public method is one transaction; see ServiceParts for the arguments.

    All methods raise UnavailableError while the database is away.
    """

    def check_store(self) -> StoreCheck:
        """Remove old files that no row knows, and name the rows whose bytes are missing."""
        return fsck(self._db, self._store)

    def register_blob(self, org_id: str, blob: Blob) -> None:
        """Note that the organisation uploaded `blob`, which is in the store.

        Raises:
            UnavailableError: `blob_vanished`, it is not in the store (any more); sending it again helps.
        """
        with self._db.begin() as session:
            self._db.lock_blobs(session, exclusive=False)
            if not self._store.exists(blob.sha256):
                raise UnavailableError("blob_vanished", "The file was removed while it arrived.", "Send it again.")
            BlobRepository(session).register(org_id, blob.sha256, blob.size_bytes, self._db.now(session), uploaded=True)

    def submit(self, org_id: str, request: SubmitScan) -> Submitted:
        """Queue a scan, or find the one that answers the request already.

        Without `force`, the newest result of the same content is returned, else the live scan of it. "Content" is
        model, reference set, configuration and engine version, within the organisation.

        Raises:
            NotFoundError: `blob_not_found`, the model, one of its files or the reference set is no blob of theirs.
            InvalidInputError: `invalid_manifest`.
        """
        key = content_key(request)
        for _ in range(_SUBMIT_TRIES):
            with self._db.begin() as session:
                blobs, scans, now = BlobRepository(session), ScanRepository(session), self._db.now(session)
                self._db.lock_blobs(session, exclusive=False)
                hub_reference = None
                if request.contents is not None:
                    hub_reference = self._note_contents(session, org_id, request.contents)
                for sha256 in filter(None, (request.model_sha256, request.reference_sha256)):
                    if blobs.get(org_id, sha256) is None:
                        raise blob_not_found()
                scan_id = None
                if not request.force:
                    scan_id = scans.find_succeeded(org_id, key) or scans.find_live(org_id, key)
                reused = scan_id is not None
                if scan_id is None:
                    filename = request.model_filename.replace("\0", "")[:255]
                    model_id = ModelRepository(session).ensure(
                        org_id, [(request.model_sha256, filename)], request.config.kind or ModelKind.CLASSIFIER, now
                    )
                    candidate = new_id("scan", now)
                    if not scans.insert(
                        id=candidate,
                        org_id=org_id,
                        checkpoint_id=model_id,
                        model_sha256=request.model_sha256,
                        model_filename=filename,
                        hub_reference_id=hub_reference,
                        reference_sha256=request.reference_sha256,
                        config=request.config.to_json(),
                        preset=request.config.preset,
                        engine_version=ENGINE_VERSION,
                        content_key=key,
                        forced=request.force,
                        state=JobState.QUEUED,
                        progress=0.0,
                        attempt=0,
                        released=0,
                        event_count=0,
                        not_before=now,
                        created_at=now,
                    ):
                        continue  # an equal scan was inserted just now: look again
                    scan_id = candidate
                record = scans.get(org_id, scan_id)
                assert record is not None
                return Submitted(to_view(record), reused, request.contents.hub if request.contents else None)
        raise UnavailableError("busy", "Too many equal submissions at once.", "Try again in a moment.")

    def request_cancel(self, org_id: str, scan_id: str) -> ScanView:
        """Cancel a queued scan at once; ask the worker of a running one to stop. Repeating it changes nothing.

        Raises:
            NotFoundError: `scan_not_found`.
            ConflictError: `scan_finished`, it has succeeded or failed.
        """
        with self._db.begin() as session:
            scans, leases, now = ScanRepository(session), LeaseRepository(session), self._db.now(session)
            leases.lock(scan_id)
            at_once = leases.transition(
                scan_id, CANCEL_QUEUED, owned_by(org_id), cancel_requested_at=now, finished_at=now
            )
            if at_once is None:
                leases.request_cancel(org_id, scan_id, now)
            record = scans.get(org_id, scan_id)
            if record is None:
                raise scan_not_found()
            view = to_view(record)
        if view.state in {JobState.SUCCEEDED, JobState.FAILED}:
            raise ConflictError("scan_finished", f"The scan has {view.state} already.")
        return view


def content_key(request: SubmitScan) -> str:
    """What makes two scans the same: a SHA-256 over everything their result depends on."""
    parts = (request.model_sha256, request.reference_sha256 or "-", request.config.digest, ENGINE_VERSION)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()
