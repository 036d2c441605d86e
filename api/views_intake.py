"""What the API answers with about what is on its way in: uploads and reference sets."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from api import links
from core.jobs.reference_sets import ReferenceSetView
from core.jobs.uploads import UploadView
from core.report.reference import ReferenceFacts


class UploadOut(BaseModel):
    """A resumable upload."""

    id: str
    length: int = Field(description="Bytes in all.")
    offset: int = Field(description="Bytes that are here.")
    filename: str
    sha256: str | None = Field(description="The digest that was announced, if one was.")
    blob: str | None = Field(description="The digest of the stored bytes, once all are here.")
    created_at: datetime
    expires_at: datetime = Field(description="When it is removed if nothing is added before.")
    links: dict[str, str]

    @classmethod
    def of(cls, view: UploadView) -> "UploadOut":
        found = {"self": links.upload(view.id)}
        if view.blob_sha256 is not None:
            found["blob"] = links.blob(view.blob_sha256)
        return cls(
            id=view.id,
            length=view.length,
            offset=view.offset,
            filename=view.filename,
            sha256=view.sha256,
            blob=view.blob_sha256,
            created_at=view.created_at,
            expires_at=view.expires_at,
            links=found,
        )


class UploadList(BaseModel):
    """Open uploads, newest first."""

    items: list[UploadOut]


class ReferenceSetOut(BaseModel):
    """Clean images with a name, looked through once and used by many scans."""

    id: str
    name: str
    sha256: str = Field(description="Of the zip archive that scans are given: equal digests, equal images.")
    size_bytes: int
    source: dict[str, Any] = Field(description="Where it comes from.")
    facts: ReferenceFacts
    created_at: datetime
    links: dict[str, str]

    @classmethod
    def of(cls, view: ReferenceSetView) -> "ReferenceSetOut":
        return cls(
            id=view.id,
            name=view.name,
            sha256=view.sha256,
            size_bytes=view.size_bytes,
            source=view.source,
            facts=ReferenceFacts.model_validate(view.facts),
            created_at=view.created_at,
            links={"self": links.reference_set(view.id)},
        )


class ReferenceSetPage(BaseModel):
    """Newest first; the Link header carries the address of the next page."""

    items: list[ReferenceSetOut]
    next_cursor: str | None
