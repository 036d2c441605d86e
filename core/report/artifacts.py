"""Describes a result file by what it is and what it contains."""

import hashlib
from pathlib import Path

from core.domain import ArtifactRole
from core.report.schema import ArtifactInfo

_MEDIA_TYPES = {".png": "image/png", ".json": "application/json"}


def describe(path: Path, role: ArtifactRole) -> ArtifactInfo:
    """Digest, size and media type of the file at `path`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return ArtifactInfo(
        role=role,
        sha256=digest,
        size_bytes=path.stat().st_size,
        filename=path.name,
        media_type=_MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
    )
