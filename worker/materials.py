"""The files of a model on their way from a reference to places that a parsing child can read.

Used by whoever runs children on what an organisation named: the runner for scans, the API for inspections. Everything
that touches the network or a token happens here, in the parent: children get paths.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from core.domain import Stage
from core.errors import InvalidInputError, LockedError, UnavailableError
from core.hub.reference import HubRef
from core.hub.selection import RULES
from core.hub.snapshot import mismatch, take_snapshot
from core.hub.source import FileAt, HubFile, ShouldStop, Sink
from core.jobs.service import HubCommit, JobService, ModelContents
from core.manifest import Manifest, ManifestFile
from core.storage.protocol import BlobStore
from worker.children import AskHalt, Halt
from worker.events import OnEvent
from worker.hub import HubDesk
from worker.protocol import ModelFile
from worker.transfer import watched

log = logging.getLogger(__name__)

#: References that a process resolves at once: a slow Hub must not take all threads that answer requests.
MAX_ASKING = 8
_asking = threading.BoundedSemaphore(MAX_ASKING)

_NOTE_EVERY_S = 10.0
_LOCK_PATIENCE_S, _LOCK_POLL_S = 90.0, 0.5


def never() -> Halt | None:
    """For callers that do not stop."""
    return None


def nothing(event: Any) -> None:
    """For callers that do not listen."""


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a model's files are; the fields of JobSpec by the same names."""

    model_path: Path
    model_files: tuple[ModelFile, ...]


class Materials:
    """Finds, verifies and fetches the files of models.

    Args:
        service: knows whose the blobs are.
        store: has their bytes.
        desk: the way to the Hub.
    """

    def __init__(self, service: JobService, store: BlobStore, desk: HubDesk) -> None:
        self._service, self._store, self._desk = service, store, desk

    @property
    def desk(self) -> HubDesk:
        """The way to the Hub."""
        return self._desk

    def keep_manifest(self, manifest: Manifest) -> None:
        """Store the manifest's bytes, so that a scan may be named by its digest. Raises StorageFullError."""
        self._keep(manifest.to_bytes())

    def resolve(self, org_id: str, ref: HubRef) -> ModelContents:
        """What a Hub reference stands for now; weights are not fetched yet. Blocks for seconds.

        A commit that the organisation has seen before is not listed again.

        Raises:
            HubError: see core/hub/errors.py.
            UnavailableError: `hub_busy`, MAX_ASKING others ask at this moment.
            QuotaError, StorageFullError: there is no room for the files.
            SecretKeyError: the organisation's token cannot be opened.
        """
        if not _asking.acquire(blocking=False):
            raise UnavailableError(
                "hub_busy", f"{MAX_ASKING} references are being resolved already.", "Try again in some seconds."
            )
        try:
            return self._resolve(org_id, ref)
        finally:
            _asking.release()

    def _resolve(self, org_id: str, ref: HubRef) -> ModelContents:
        source, token = self._desk.source, self._desk.token(org_id)
        commit = source.commit(ref, token)
        known = self._service.at_commit(org_id, ref.repo, commit, RULES)
        if known is not None and known.hub is not None:
            contents = ModelContents(known.manifest, replace(known.hub, revision=ref.revision))
        else:
            shot = take_snapshot(
                source,
                ref.repo,
                commit,
                token,
                self._desk.limits,
                lambda git_oids: self._service.known_files(org_id, git_oids),
            )
            self._check_room(org_id, self._service.files_to_fetch(org_id, shot.manifest))
            for data in shot.small.values():
                self._service.register_blob(org_id, self._keep(data))
            hub = HubCommit(ref.repo, ref.revision, commit, RULES, shot.ignored)
            contents = ModelContents(shot.manifest, hub, shot.git_oids)
        self.keep_manifest(contents.manifest)
        return contents

    def place(
        self,
        org_id: str,
        model_sha256: str,
        contents: ModelContents | None,
        *,
        on_event: OnEvent = nothing,
        halt: AskHalt = never,
    ) -> Placed:
        """Verified bytes for every file of the model; what is missing is fetched from the Hub first.

        Args:
            model_sha256: of the one file, or of the manifest.
            contents: None for one file.
            on_event: called in this thread with progress (its bytes beside the fraction) and notes.
            halt: asked several times a second while bytes are on their way.

        Raises:
            NotFoundError: `blob_not_found`.
            IntegrityError: `blob_corrupt`.
            HubError, QuotaError, StorageFullError, SecretKeyError: fetching failed; what arrived is kept for a while.
            Halted: `halt` answered.
        """
        files: tuple[ModelFile, ...] = ()
        if contents is not None:
            fetched = self._fetch_missing(org_id, contents, on_event, halt)
            files = tuple(
                ModelFile(
                    path=file.path,
                    location=self._store.path(file.sha256) if file.sha256 in fetched else self.verified(file.sha256),
                )
                for file in contents.manifest.files
            )
        return Placed(self.verified(model_sha256), files)

    def verified(self, sha256: str) -> Path:
        """Where a blob is whose bytes were compared with its name just now. Raises NotFoundError, IntegrityError."""
        self._store.open_verified(sha256).close()
        return self._store.path(sha256)

    def _keep(self, data: bytes) -> Any:
        with self._store.writer() as writer:
            writer.write(data)
            return writer.commit()

    def _check_room(self, org_id: str, files: Collection[ManifestFile]) -> None:
        needed = sum(file.size_bytes for file in files)
        self._service.check_stored_quota(org_id, needed)
        self._store.check_reserve(needed)

    def _fetch_missing(self, org_id: str, contents: ModelContents, on_event: OnEvent, halt: AskHalt) -> frozenset[str]:
        """Digests of what was fetched just now."""
        if contents.hub is None:
            return frozenset()
        missing = self._service.files_to_fetch(org_id, contents.manifest)
        if missing:
            self._check_room(org_id, missing)
            _Fetch(self._service, self._store, self._desk, org_id, contents.hub, on_event, halt).all(missing)
        return frozenset(file.sha256 for file in missing)


class _Fetch:
    """Some files of one commit on their way into the store."""

    def __init__(
        self,
        service: JobService,
        store: BlobStore,
        desk: HubDesk,
        org_id: str,
        hub: HubCommit,
        on_event: OnEvent,
        halt: AskHalt,
    ) -> None:
        self._service, self._store, self._desk = service, store, desk
        self._org_id, self._hub = org_id, hub
        self._on_event, self._halt = on_event, halt
        self._done = self._total = 0
        self._here = 0  # of the file that is being fetched
        self._noted_at = time.monotonic()

    def all(self, files: Collection[ManifestFile]) -> None:
        self._total = sum(file.size_bytes for file in files)
        self._note(
            f"Fetching {len(files)} files ({_megabytes(self._total)}) of {self._hub.repo} at {self._hub.commit}."
        )
        for file in files:
            self._one(file)
            self._done += file.size_bytes
            self._here = 0
            self._report()
        self._note(f"Fetched {_megabytes(self._total)}.")

    def _one(self, file: ManifestFile) -> None:
        token = self._desk.token(self._org_id)
        where = FileAt(self._hub.repo, self._hub.commit, HubFile(file.path, file.size_bytes, file.sha256, git_oid=None))

        def work(should_stop: ShouldStop) -> None:
            with self._partial(file, should_stop) as partial:
                if self._is_here(file):  # another scan of the organisation was faster
                    partial.discard()
                    return
                self._desk.source.fetch(where, token, _Counted(partial, self._count), should_stop)
                try:
                    blob = partial.commit(file.sha256)
                except InvalidInputError:
                    raise mismatch(file.path) from None
                self._service.register_blob(self._org_id, blob)
                partial.discard()

        watched(work, self._halt, self._report)

    def _partial(self, file: ManifestFile, should_stop: ShouldStop) -> Any:
        """What an earlier attempt left, or nothing yet. That attempt may still be letting go of it."""
        # Bytes of one organisation's fetch are no help to another's.
        name = hashlib.sha256(f"{self._org_id}\n{file.sha256}".encode()).hexdigest()
        give_up = time.monotonic() + _LOCK_PATIENCE_S
        while True:
            try:
                return self._store.partial(f"hub_{name[:56]}", file.size_bytes)
            except LockedError:
                if time.monotonic() > give_up or should_stop():
                    raise
            time.sleep(_LOCK_POLL_S)

    def _is_here(self, file: ManifestFile) -> bool:
        return self._service.has_blob(self._org_id, file.sha256) and self._store.exists(file.sha256)

    def _count(self, size: int) -> None:
        self._here = size

    def _report(self) -> None:
        here = self._done + self._here
        self._on_event(
            {
                "event": "progress",
                "stage": Stage.FETCHING.value,
                "fraction": here / self._total if self._total else 1.0,
                "bytes": here,
                "total_bytes": self._total,
            }
        )
        if time.monotonic() - self._noted_at > _NOTE_EVERY_S:
            self._note(f"Fetched {_megabytes(here)} of {_megabytes(self._total)}.")

    def _note(self, message: str) -> None:
        self._noted_at = time.monotonic()
        self._on_event({"event": "note", "message": message})


class _Counted:
    """A Sink that tells how far it is."""

    def __init__(self, inner: Sink, count: Any) -> None:
        self._inner, self._count = inner, count
        count(inner.size)

    @property
    def size(self) -> int:
        return self._inner.size

    def write(self, data: bytes) -> None:
        self._inner.write(data)
        self._count(self._inner.size)

    def rollback(self, size: int) -> None:
        self._inner.rollback(size)
        self._count(self._inner.size)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:.1f} MB"
