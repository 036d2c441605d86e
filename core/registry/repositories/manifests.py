"""Models of several files: what their manifests name, and which Hub commits they come from."""

from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import select

from core.manifest import Manifest, ManifestFile
from core.registry.ids import new_id
from core.registry.orm import BlobRow, HubReference, ManifestFileRow, OrgBlob
from core.registry.repositories._base import Repository


class ManifestRepository(Repository):
    """Rows of manifests; the organisation must know the manifest itself as a blob."""

    def add(self, org_id: str, manifest: Manifest, git_oids: Mapping[str, str]) -> None:
        """Note the files; repeating it changes nothing.

        Args:
            git_oids: by path, Git's names for files whose bytes were seen.
        """
        manifest_sha256 = manifest.sha256
        for file in manifest.files:
            self._insert_new(
                ManifestFileRow,
                org_id=org_id,
                manifest_sha256=manifest_sha256,
                path=file.path,
                sha256=file.sha256,
                size_bytes=file.size_bytes,
                git_oid=git_oids.get(file.path),
            )

    def files(self, org_id: str, manifest_sha256: str) -> tuple[ManifestFile, ...]:
        """By path; empty if the digest is no manifest's that the organisation knows."""
        rows = self._session.execute(
            select(ManifestFileRow.path, ManifestFileRow.sha256, ManifestFileRow.size_bytes)
            .where(ManifestFileRow.org_id == org_id, ManifestFileRow.manifest_sha256 == manifest_sha256)
            .order_by(ManifestFileRow.path)
        )
        return tuple(sorted((ManifestFile(*row) for row in rows), key=lambda file: file.path))

    def files_of(self, org_id: str, manifests: Collection[str]) -> list[str]:
        """Digests of everything these manifests name."""
        statement = select(ManifestFileRow.sha256).where(
            ManifestFileRow.org_id == org_id, ManifestFileRow.manifest_sha256.in_(manifests)
        )
        return list(self._session.scalars(statement.distinct()))

    def present(self, org_id: str, manifest_sha256: str) -> set[str]:
        """Digests of those of its files that the organisation has."""
        statement = (
            select(ManifestFileRow.sha256)
            .join(OrgBlob, (OrgBlob.org_id == ManifestFileRow.org_id) & (OrgBlob.sha256 == ManifestFileRow.sha256))
            .where(ManifestFileRow.org_id == org_id, ManifestFileRow.manifest_sha256 == manifest_sha256)
        )
        return set(self._session.scalars(statement))

    def by_git_oid(self, org_id: str, oids: Collection[str]) -> dict[str, tuple[str, int]]:
        """(sha256, size in bytes) by Git's name, of files the organisation has."""
        rows = self._session.execute(
            select(ManifestFileRow.git_oid, BlobRow.sha256, BlobRow.size_bytes)
            .join(OrgBlob, (OrgBlob.org_id == ManifestFileRow.org_id) & (OrgBlob.sha256 == ManifestFileRow.sha256))
            .join(BlobRow, BlobRow.sha256 == OrgBlob.sha256)
            .where(ManifestFileRow.org_id == org_id, ManifestFileRow.git_oid.in_(oids))
        )
        return {row.git_oid: (row.sha256, row.size_bytes) for row in rows}

    def ensure_reference(
        self,
        org_id: str,
        manifest_sha256: str,
        *,
        repo: str,
        revision: str,
        commit: str,
        rules: str,
        ignored: Collection[str],
        now: datetime,
    ) -> str:
        """The id of the row that says so."""
        key = {
            "org_id": org_id,
            "repo": repo,
            "revision": revision,
            "commit_sha": commit,
            "rules": rules,
            "manifest_sha256": manifest_sha256,
        }
        fresh = new_id("hubref", now)
        if self._insert_new(HubReference, id=fresh, ignored=list(ignored), created_at=now, **key):
            return fresh
        return self._session.scalars(select(HubReference.id).filter_by(**key)).one()

    def reference(self, org_id: str, reference_id: str) -> HubReference | None:
        return self._session.scalar(
            select(HubReference).where(HubReference.org_id == org_id, HubReference.id == reference_id)
        )

    def references(self, org_id: str, manifest_sha256: str) -> list[HubReference]:
        """Where a manifest's files come from, newest first."""
        statement = (
            select(HubReference)
            .where(HubReference.org_id == org_id, HubReference.manifest_sha256 == manifest_sha256)
            .order_by(HubReference.id.desc())
        )
        return list(self._session.scalars(statement))

    def at_commit(self, org_id: str, repo: str, commit: str, rules: str) -> HubReference | None:
        """What this commit was resolved to before, by the same rules."""
        statement = (
            select(HubReference)
            .where(
                HubReference.org_id == org_id,
                HubReference.repo == repo,
                HubReference.commit_sha == commit,
                HubReference.rules == rules,
            )
            .order_by(HubReference.id.desc())
            .limit(1)
        )
        return self._session.scalar(statement)
