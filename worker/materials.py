"""The files of a model on their way from a reference to places that a parsing child can read.

Used by whoever runs children on what an organisation named: the runner for scans, the API for inspections.
"""

from dataclasses import dataclass
from pathlib import Path

from core.jobs.service import JobService, ModelContents
from core.manifest import Manifest
from core.storage.protocol import BlobStore
from worker.protocol import ModelFile


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
    """

    def __init__(self, service: JobService, store: BlobStore) -> None:
        self._service, self._store = service, store

    def keep_manifest(self, manifest: Manifest) -> None:
        """Store the manifest's bytes, so that a scan may be named by its digest. Raises StorageFullError."""
        with self._store.writer() as writer:
            writer.write(manifest.to_bytes())
            writer.commit()

    def place(self, org_id: str, model_sha256: str, contents: ModelContents | None) -> Placed:
        """Verified bytes for every file of the model.

        Args:
            model_sha256: of the one file, or of the manifest.
            contents: None for one file.

        Raises:
            NotFoundError: `blob_not_found`.
            IntegrityError: `blob_corrupt`.
        """
        files: tuple[ModelFile, ...] = ()
        if contents is not None:
            files = tuple(
                ModelFile(path=file.path, location=self.verified(file.sha256)) for file in contents.manifest.files
            )
        return Placed(self.verified(model_sha256), files)

    def verified(self, sha256: str) -> Path:
        """Where a blob is whose bytes were compared with its name just now. Raises NotFoundError, IntegrityError."""
        self._store.open_verified(sha256).close()
        return self._store.path(sha256)
