"""What the job service takes and gives: plain immutable values, free of the database and of torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar

from core.config import ScanConfig
from core.domain import ArtifactRole, JobState, ModelKind, Preset, PurificationStatus, Stage, Verdict
from core.manifest import Manifest

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubCommit:
    """What a reference to a Hub repository stands for."""

    repo: str  # org/name
    revision: str  # as it was asked for
    commit: str  # 40 hexadecimal digits
    rules: str  # which version of the rules chose the files
    ignored: tuple[str, ...] = ()  # paths in the repository that no scan looks at


@dataclass(frozen=True, slots=True)
class ModelContents:
    """The files of a model of several, and where those come from that the organisation does not have yet."""

    manifest: Manifest
    hub: HubCommit | None = None
    git_oids: Mapping[str, str] = field(default_factory=dict)  # by path; see ManifestFileRow.git_oid


@dataclass(frozen=True, slots=True)
class SubmitScan:
    """A request for a scan; its blobs must be registered for the organisation, or come from a Hub.

    With `contents`, `model_sha256` is the digest of their manifest, whose bytes are in the store.
    """

    model_sha256: str
    model_filename: str
    reference_sha256: str | None
    config: ScanConfig
    force: bool = False  # compute again even if an equal scan exists
    contents: ModelContents | None = None


@dataclass(frozen=True, slots=True)
class ErrorView:
    """Why a scan has no verdict."""

    code: str
    detail: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """A file a scan produced."""

    role: ArtifactRole
    sha256: str
    size_bytes: int
    filename: str
    media_type: str


@dataclass(frozen=True, slots=True)
class ScanView:
    """A scan as its organisation sees it. Verdict and everything scientific is None until it has succeeded."""

    id: str
    org_id: str
    state: JobState
    stage: Stage | None
    progress: float  # [0, 1]
    eta_s: float | None
    verdict: Verdict | None
    score: float | None
    threshold: float | None
    statistics: list[dict[str, Any]]  # core.report.schema.Statistic
    error: ErrorView | None  # of a failed scan
    model_id: str
    model_sha256: str
    model_filename: str
    reference_sha256: str | None
    config: dict[str, Any]  # core.config.ScanConfig.to_json()
    preset: Preset
    engine_version: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    purification_status: PurificationStatus | None
    artifacts: list[ArtifactView]
    hub: HubCommit | None = None  # if the model was named by a Hub reference


@dataclass(frozen=True, slots=True)
class Submitted:
    """The scan that answers a request."""

    scan: ScanView
    reused: bool  # an earlier or a live scan of the same content, not a new one
    hub: HubCommit | None = None  # what the request's own reference stands for


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A claim on a running scan; `token` fences whoever holds an older one."""

    scan_id: str
    token: int
    org_id: str
    model_sha256: str
    model_filename: str
    reference_sha256: str | None
    config: dict[str, Any]
    deadline_at: datetime
    contents: ModelContents | None = None  # None: one file


@dataclass(frozen=True, slots=True)
class Renewal:
    """What the holder of a claim must know."""

    alive: bool  # False: fenced; stop and discard everything
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class ScanFilter:
    """Which scans to list; None: any."""

    state: JobState | None = None
    verdict: Verdict | None = None
    model_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Newest first; `next_cursor` is None on the last page."""

    items: list[T]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class EventView:
    """Something that happened to a scan."""

    seq: int
    attempt: int
    created_at: datetime
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A file of a model, or of its weights in another container; `available`: its bytes are stored."""

    sha256: str
    filename: str
    size_bytes: int | None
    available: bool


@dataclass(frozen=True, slots=True)
class ModelLink:
    """The other end of a lineage and the scan that made it."""

    model_id: str
    sha256: str
    scan_id: str


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model, what is known about it and where it comes from."""

    id: str
    org_id: str
    kind: ModelKind | None  # unknown before the first scan that succeeded
    sha256: str  # of the first file; of the manifest of a model of several
    architecture: str | None  # known after the first scan that succeeded
    num_targets: int | None
    created_at: datetime
    files: list[ModelFile]
    scans: list[ScanView]  # newest first
    purified_from: list[ModelLink] = field(default_factory=list)
    purified_to: list[ModelLink] = field(default_factory=list)
    hub: list[HubCommit] = field(default_factory=list)  # where it can be had, newest first


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """A blob an organisation may download, and what to say about it.

    `produced_by` is the scan that made it, newest first; None for an upload. `model_verdict` is the worst verdict on
    the model it comes from (for an upload: on itself): backdoored, inconclusive, clean; None if there is none.
    """

    sha256: str
    size_bytes: int
    filename: str
    media_type: str
    role: ArtifactRole | None
    produced_by: str | None
    model_verdict: Verdict | None
