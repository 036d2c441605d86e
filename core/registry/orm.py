"""The tables. What they mean and which rules the database itself enforces; see also the triggers in migrations/.

Conventions: ids are opaque text; times are UTC; every row that belongs to somebody carries its org_id.
"""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from core.domain import ArtifactRole, GateDecision, JobState, ModelKind, Preset, PurificationStatus, Stage, Verdict
from core.registry.types import Digest, UtcDateTime, enum_by_value

_ID = String(40)
#: SQLite numbers only INTEGER primary keys by itself.
_SEQUENCE = BigInteger().with_variant(Integer, "sqlite")


class Base(DeclarativeBase):
    """Names every constraint, so that migrations can address it on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read once by SQLAlchemy
        datetime: UtcDateTime,
        dict[str, Any]: JSON,
        list[Any]: JSON,
        list[str]: JSON,
        str: String(255),
    }


class Org(Base):
    """Whose rows these are."""

    __tablename__ = "org"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    name: Mapped[str]
    created_at: Mapped[datetime]


class ApiKey(Base):
    """A credential of an organisation; only the hash of the plaintext is kept."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"), index=True)
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(String(16), unique=True)
    hash: Mapped[str] = mapped_column(Digest)
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]


class BlobRow(Base):
    """Bytes that the store holds for at least one organisation."""

    __tablename__ = "blob"
    __table_args__ = (CheckConstraint("size_bytes >= 0", name="size"),)

    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime]


class OrgBlob(Base):
    """Which organisation has a blob. Equal bytes of two organisations share storage and nothing else."""

    __tablename__ = "org_blob"

    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), primary_key=True, index=True)
    #: Sent by the organisation itself, not only produced by its scans: outlives those scans.
    uploaded: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime]


class Upload(Base):
    """A file that arrives in several goes. How much of it is here says the store: the size of the bytes themselves."""

    __tablename__ = "upload"
    __table_args__ = (CheckConstraint("length >= 0", name="length"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"), index=True)
    length: Mapped[int] = mapped_column(BigInteger)
    #: What the client announced; nothing else is kept.
    sha256: Mapped[str | None] = mapped_column(Digest)
    filename: Mapped[str]
    #: The Upload-Metadata header as it came: it is shown again to whoever asks.
    client_metadata: Mapped[str] = mapped_column(Text)
    #: Set once it is complete. No foreign key: the blob may be deleted before this row expires.
    blob_sha256: Mapped[str | None] = mapped_column(Digest)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime] = mapped_column(index=True)


class ReferenceSetRow(Base):
    """Clean images with a name: a blob that was looked through once, to be used by many scans."""

    __tablename__ = "reference_set"
    __table_args__ = (UniqueConstraint("org_id", "name"),)

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"))
    name: Mapped[str]
    #: The zip archive that scans are given.
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    #: Where it came from: a blob, single images, or a data set of the Hub with its commit.
    source: Mapped[dict[str, Any]]
    #: What was found in it: counts, classes, what is not used and why.
    facts: Mapped[dict[str, Any]]
    created_at: Mapped[datetime]


class Checkpoint(Base):
    """A model: one set of weights, in one or more files."""

    __tablename__ = "checkpoint"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"), index=True)
    kind: Mapped[ModelKind] = mapped_column(enum_by_value(ModelKind, "kind"))
    architecture: Mapped[str | None]
    num_targets: Mapped[int | None]
    created_at: Mapped[datetime]


class CheckpointFile(Base):
    """A file that holds the weights of a checkpoint; a purified one has two, in two containers."""

    __tablename__ = "checkpoint_file"
    __table_args__ = (UniqueConstraint("org_id", "sha256"),)

    checkpoint_id: Mapped[str] = mapped_column(ForeignKey("checkpoint.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"))
    filename: Mapped[str]
    #: Order of the files; 0 is the one the model is named by.
    position: Mapped[int]


class ManifestFileRow(Base):
    """One file of a model of several, as its manifest names it; the bytes may still have to be fetched."""

    __tablename__ = "manifest_file"
    __table_args__ = (
        # Whoever forgets the manifest forgets what it says.
        ForeignKeyConstraint(["org_id", "manifest_sha256"], ["org_blob.org_id", "org_blob.sha256"], ondelete="CASCADE"),
        Index("ix_manifest_file_org_id_sha256", "org_id", "sha256"),
    )

    org_id: Mapped[str] = mapped_column(_ID, primary_key=True)
    manifest_sha256: Mapped[str] = mapped_column(Digest, primary_key=True)
    path: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(Digest)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    #: Git's name for the same bytes, where we computed it and the Hub says the same: tells that a file is unchanged.
    git_oid: Mapped[str | None] = mapped_column(String(40))


class HubReference(Base):
    """What a reference to a Hub repository was resolved to, and by which rules its files were chosen."""

    __tablename__ = "hub_reference"
    __table_args__ = (
        ForeignKeyConstraint(["org_id", "manifest_sha256"], ["org_blob.org_id", "org_blob.sha256"], ondelete="CASCADE"),
        UniqueConstraint(
            "org_id", "repo", "revision", "commit_sha", "rules", "manifest_sha256", name="uq_hub_reference_resolved"
        ),
    )

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(_ID)
    repo: Mapped[str]
    revision: Mapped[str]
    commit_sha: Mapped[str] = mapped_column(String(40))
    rules: Mapped[str] = mapped_column(String(16))
    manifest_sha256: Mapped[str] = mapped_column(Digest)
    #: Files of the repository that no scan looks at, by path; capped.
    ignored: Mapped[list[str]]
    created_at: Mapped[datetime]


class HubToken(Base):
    """An organisation's credential at one Hub endpoint, encrypted; see core/registry/secrets.py."""

    __tablename__ = "hub_token"

    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"), primary_key=True)
    endpoint: Mapped[str] = mapped_column(primary_key=True)
    ciphertext: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]


_LIVE = "state IN ('queued', 'running') AND NOT forced AND cancel_requested_at IS NULL"


class ScanJob(Base):
    """A scan and where it stands. `attempt` counts claims and is the fencing token of the one who holds the lease."""

    __tablename__ = "scan_job"

    id: Mapped[str] = mapped_column(_ID, primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"))
    checkpoint_id: Mapped[str] = mapped_column(ForeignKey("checkpoint.id"), index=True)
    model_sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    model_filename: Mapped[str]
    #: Where the files come from if they were named by a Hub reference.
    hub_reference_id: Mapped[str | None] = mapped_column(ForeignKey("hub_reference.id"))
    reference_sha256: Mapped[str | None] = mapped_column(ForeignKey("blob.sha256"), index=True)
    config: Mapped[dict[str, Any]]
    preset: Mapped[Preset] = mapped_column(enum_by_value(Preset, "preset"))
    engine_version: Mapped[str] = mapped_column(String(64))
    #: Digest over model, reference set, config and engine version: equal keys, equal results.
    content_key: Mapped[str] = mapped_column(Digest)
    forced: Mapped[bool] = mapped_column(Boolean)

    state: Mapped[JobState] = mapped_column(enum_by_value(JobState, "state"))
    stage: Mapped[Stage | None] = mapped_column(enum_by_value(Stage, "stage"))
    progress: Mapped[float]
    eta_s: Mapped[float | None]
    attempt: Mapped[int]
    #: Attempts given back by a draining worker; they do not count against the cap.
    released: Mapped[int]
    event_count: Mapped[int]
    not_before: Mapped[datetime]
    lease_owner: Mapped[str | None]
    lease_expires_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]
    published_at: Mapped[datetime | None]
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    error_hint: Mapped[str | None] = mapped_column(Text)

    __table_args__ = (
        CheckConstraint("progress >= 0 AND progress <= 1", name="progress"),
        CheckConstraint("attempt >= 0 AND released >= 0 AND released <= attempt", name="attempt"),
        CheckConstraint("(state = 'running') = (lease_expires_at IS NOT NULL)", name="lease"),
        CheckConstraint("(state IN ('succeeded', 'failed', 'canceled')) = (finished_at IS NOT NULL)", name="finished"),
        Index("ix_scan_job_org_id_id", "org_id", "id"),
        Index("ix_scan_job_content", "org_id", "content_key"),
        # One live job per content: concurrent submits share it.
        Index(
            "uq_scan_job_live_content",
            "org_id",
            "content_key",
            unique=True,
            sqlite_where=text(_LIVE),
            postgresql_where=text(_LIVE),
        ),
        Index(
            "ix_scan_job_queued",
            "not_before",
            sqlite_where=text("state = 'queued'"),
            postgresql_where=text("state = 'queued'"),
        ),
        Index(
            "ix_scan_job_leased",
            "lease_expires_at",
            sqlite_where=text("state = 'running'"),
            postgresql_where=text("state = 'running'"),
        ),
    )


class ScanEvent(Base):
    """What happened to a scan, for people; capped per scan."""

    __tablename__ = "scan_event"

    scan_id: Mapped[str] = mapped_column(ForeignKey("scan_job.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int]
    created_at: Mapped[datetime]
    payload: Mapped[dict[str, Any]]


class ScanResult(Base):
    """The verdict on a scan. Immutable: a trigger refuses every UPDATE."""

    __tablename__ = "scan_result"

    scan_id: Mapped[str] = mapped_column(ForeignKey("scan_job.id"), primary_key=True)
    attempt: Mapped[int]
    verdict: Mapped[Verdict] = mapped_column(enum_by_value(Verdict, "verdict"))
    score: Mapped[float]
    threshold: Mapped[float]
    statistics: Mapped[list[Any]]
    purification_status: Mapped[PurificationStatus] = mapped_column(
        enum_by_value(PurificationStatus, "purification_status")
    )
    report: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True)
    created_at: Mapped[datetime]


class ScanArtifact(Base):
    """A file a succeeded scan produced."""

    __tablename__ = "scan_artifact"

    scan_id: Mapped[str] = mapped_column(ForeignKey("scan_job.id"), primary_key=True)
    position: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    role: Mapped[ArtifactRole] = mapped_column(enum_by_value(ArtifactRole, "role"))
    sha256: Mapped[str] = mapped_column(ForeignKey("blob.sha256"), index=True)
    filename: Mapped[str]
    media_type: Mapped[str]


class Lineage(Base):
    """`child` was purified from `parent` by a scan."""

    __tablename__ = "lineage"

    child_id: Mapped[str] = mapped_column(ForeignKey("checkpoint.id"), primary_key=True)
    parent_id: Mapped[str] = mapped_column(ForeignKey("checkpoint.id"), primary_key=True, index=True)
    scan_id: Mapped[str] = mapped_column(ForeignKey("scan_job.id"), primary_key=True, index=True)


class GateDecisionRow(Base):
    """What the gate once answered. Append-only: triggers refuse UPDATE and DELETE."""

    __tablename__ = "gate_decision"

    id: Mapped[int] = mapped_column(_SEQUENCE, primary_key=True)
    org_id: Mapped[str] = mapped_column(ForeignKey("org.id"))
    sha256: Mapped[str] = mapped_column(Digest)
    decision: Mapped[GateDecision] = mapped_column(enum_by_value(GateDecision, "decision"))
    allow: Mapped[bool] = mapped_column(Boolean)
    reasons: Mapped[list[str]]
    engine_versions: Mapped[list[str]]
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_gate_decision_org_id_sha256", "org_id", "sha256"),)
