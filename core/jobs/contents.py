"""Models of several files in the registry: noted when a scan is submitted, looked up when one is claimed or shown."""

from collections.abc import Collection, Sequence

from core.errors import InvalidInputError, UnavailableError
from core.jobs._parts import ServiceParts
from core.jobs.views import HubCommit, ModelContents
from core.jobs.wording import blob_not_found
from core.manifest import Manifest, ManifestFile
from core.registry.orm import HubReference
from core.registry.repositories.blobs import BlobRepository
from core.registry.repositories.manifests import ManifestRepository
from core.registry.session import Session


class Contents(ServiceParts):
    """What an organisation may make models of."""

    def manifest_of(self, org_id: str, files: Sequence[tuple[str, str]]) -> Manifest:
        """The manifest of uploaded blobs: (path, sha256) each.

        Raises:
            NotFoundError: `blob_not_found`, one of them is no blob of the organisation.
            InvalidInputError: `invalid_manifest`.
        """
        with self._db.read() as session:
            blobs, found = BlobRepository(session), []
            for path, sha256 in files:
                blob = blobs.get(org_id, sha256)
                if blob is None:
                    raise blob_not_found(path)
                found.append(ManifestFile(path, sha256, blob.size_bytes))
        return Manifest.of(found)

    def contents(self, org_id: str, manifest_sha256: str) -> ModelContents | None:
        """The files of a model of several; None if the digest is no manifest's that the organisation knows."""
        with self._db.read() as session:
            return load_contents(session, org_id, manifest_sha256, None)

    def at_commit(self, org_id: str, repo: str, commit: str, rules: str) -> ModelContents | None:
        """What this commit of a Hub repository was resolved to before, by the same rules."""
        with self._db.read() as session:
            manifests = ManifestRepository(session)
            known = manifests.at_commit(org_id, repo, commit, rules)
            return None if known is None else load_contents(session, org_id, known.manifest_sha256, known.id)

    def known_files(self, org_id: str, git_oids: Collection[str]) -> dict[str, tuple[str, int]]:
        """(sha256, size in bytes) of files the organisation has, by Git's names for them."""
        with self._db.read() as session:
            return ManifestRepository(session).by_git_oid(org_id, git_oids)

    def files_to_fetch(self, org_id: str, manifest: Manifest) -> list[ManifestFile]:
        """Those that the organisation does not have, each content once.

        That another organisation has one changes nothing: nobody gets bytes that the Hub did not give it.
        """
        with self._db.read() as session:
            blobs = BlobRepository(session)
            missing = {
                file.sha256: file
                for file in manifest.files
                if blobs.get(org_id, file.sha256) is None or not self._store.exists(file.sha256)
            }
        return list(missing.values())

    def _note_contents(self, session: Session, org_id: str, contents: ModelContents) -> str | None:
        """Write them down for the organisation; the id of the Hub reference, if there is one. Under the blob lock."""
        manifest, blobs, manifests = contents.manifest, BlobRepository(session), ManifestRepository(session)
        now = self._db.now(session)
        for file in manifest.files:
            blob = blobs.get(org_id, file.sha256)
            if blob is None and contents.hub is None:
                raise blob_not_found(file.path)
            if blob is not None and blob.size_bytes != file.size_bytes:
                raise InvalidInputError("invalid_manifest", f"The size of {file.path} is not that of its bytes.")
        if not self._store.exists(manifest.sha256):
            raise UnavailableError("blob_vanished", "The list of files was removed meanwhile.", "Send it again.")
        blobs.register(org_id, manifest.sha256, len(manifest.to_bytes()), now, uploaded=True)
        manifests.add(org_id, manifest, contents.git_oids)
        if contents.hub is None:
            return None
        hub = contents.hub
        return manifests.ensure_reference(
            org_id,
            manifest.sha256,
            repo=hub.repo,
            revision=hub.revision,
            commit=hub.commit,
            rules=hub.rules,
            ignored=hub.ignored,
            now=now,
        )


def load_contents(
    session: Session, org_id: str, manifest_sha256: str, hub_reference_id: str | None
) -> ModelContents | None:
    """The files of a model of several, with the given reference or else the newest one; None for a single file."""
    manifests = ManifestRepository(session)
    files = manifests.files(org_id, manifest_sha256)
    if not files:
        return None
    if hub_reference_id is not None:
        row = manifests.reference(org_id, hub_reference_id)
    else:
        row = next(iter(manifests.references(org_id, manifest_sha256)), None)
    return ModelContents(Manifest.of(files), None if row is None else to_hub_commit(row))


def to_hub_commit(row: HubReference) -> HubCommit:
    """The public form of a resolved reference."""
    return HubCommit(row.repo, row.revision, row.commit_sha, row.rules, tuple(row.ignored))
