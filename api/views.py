"""What the API answers with, and how the domain's views become it."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from api import links
from api.examples import GATE_EXAMPLE, SCAN_EXAMPLE
from core.domain import ArtifactRole, GateDecision, JobState, ModelKind, Preset, PurificationStatus, Stage, Verdict
from core.jobs.views import HubCommit, ModelLink, ModelView, ScanView, Submitted
from core.policy.gate import GateAnswer


class BlobOut(BaseModel):
    """Bytes in the store."""

    sha256: str
    size_bytes: int


class ErrorOut(BaseModel):
    """Why a scan has no verdict."""

    code: str
    detail: str
    hint: str = ""


class HubCommitOut(BaseModel):
    """What a reference to a Hub repository stands for."""

    repo: str
    revision: str = Field(description="As it was asked for.")
    commit: str = Field(description="40 hexadecimal digits.")
    ignored: list[str] = Field(description="Files of the repository that no scan looks at; the first 200.")

    @classmethod
    def of(cls, hub: HubCommit) -> "HubCommitOut":
        return cls(repo=hub.repo, revision=hub.revision, commit=hub.commit, ignored=list(hub.ignored))


class ModelRefOut(BaseModel):
    """The suspect."""

    id: str
    sha256: str = Field(description="Of the file; of a model of several files: of its manifest.")
    filename: str
    hub: HubCommitOut | None = Field(description="If it was named by a Hub reference.")


class ReferenceRefOut(BaseModel):
    """The reference set."""

    sha256: str


class ArtifactOut(BaseModel):
    """A file a scan produced."""

    role: ArtifactRole
    sha256: str
    size_bytes: int
    filename: str
    media_type: str
    href: str


class PurificationOut(BaseModel):
    """What became of the purification; published weights are among the artifacts, by role."""

    status: PurificationStatus


class ScanOut(BaseModel):
    """A scan. `state` is the machinery, `stage` and `progress` how far it is, `verdict` the science."""

    model_config = ConfigDict(json_schema_extra={"examples": [SCAN_EXAMPLE]})

    id: str
    state: JobState
    stage: Stage | None = Field(description="What a running scan is doing.")
    progress: float = Field(ge=0, le=1)
    eta_s: float | None
    verdict: Verdict | None = Field(description="Only when state is succeeded; anything else is no verdict.")
    score: float | None = Field(description="Larger is more suspicious; backdoored from threshold on.")
    threshold: float | None
    statistics: list[dict[str, Any]]
    purification: PurificationOut | None
    error: ErrorOut | None
    model: ModelRefOut
    reference_set: ReferenceRefOut | None
    config: dict[str, Any] = Field(description="Everything, besides files and engine version, the result depends on.")
    preset: Preset
    engine_version: str
    attempt: int
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    cancel_requested: bool
    artifacts: list[ArtifactOut]
    links: dict[str, str] = Field(description="self, and what can be asked for now.")

    @classmethod
    def of(cls, view: ScanView) -> "ScanOut":
        return cls(**_scan_fields(view))


class SubmittedOut(ScanOut):
    """The answer to a submission."""

    model_config = ConfigDict(json_schema_extra={"examples": [{**SCAN_EXAMPLE, "reused": False, "resolved": None}]})

    reused: bool = Field(description="An earlier or live scan of the same files and options answers this one.")
    resolved: HubCommitOut | None = Field(
        description="What this request's Hub reference stands for; `model.hub` is what the scan was made from."
    )

    @classmethod
    def of_submission(cls, submitted: Submitted) -> "SubmittedOut":
        resolved = None if submitted.hub is None else HubCommitOut.of(submitted.hub)
        return cls(**_scan_fields(submitted.scan), reused=submitted.reused, resolved=resolved)


class ScanPage(BaseModel):
    """Newest first; the Link header carries the address of the next page."""

    items: list[ScanOut]
    next_cursor: str | None


class ModelFileOut(BaseModel):
    """A file that holds a model's weights."""

    sha256: str
    filename: str
    size_bytes: int | None
    available: bool = Field(description="Whether its bytes are still stored.")
    href: str | None


class ModelLinkOut(BaseModel):
    """The other end of a lineage, and the scan that made it."""

    model_id: str
    sha256: str
    scan_id: str
    href: str


class ModelOut(BaseModel):
    """A model and where it comes from."""

    id: str
    kind: ModelKind | None = Field(description="Known after the first scan that succeeded.")
    sha256: str
    architecture: str | None = Field(description="Known after the first scan that succeeded.")
    num_targets: int | None
    created_at: datetime
    files: list[ModelFileOut]
    hub: list[HubCommitOut] = Field(description="Commits that hold exactly these files, newest first.")
    scans: list[ScanOut]
    purified_from: list[ModelLinkOut]
    purified_to: list[ModelLinkOut]
    links: dict[str, str]

    @classmethod
    def of(cls, view: ModelView) -> "ModelOut":
        return cls(
            id=view.id,
            kind=view.kind,
            sha256=view.sha256,
            architecture=view.architecture,
            num_targets=view.num_targets,
            created_at=view.created_at,
            files=[
                ModelFileOut(
                    sha256=file.sha256,
                    filename=file.filename,
                    size_bytes=file.size_bytes,
                    available=file.available,
                    href=links.artifact(file.sha256) if file.available else None,
                )
                for file in view.files
            ],
            hub=[HubCommitOut.of(item) for item in view.hub],
            scans=[ScanOut.of(scan) for scan in view.scans],
            purified_from=[_model_link(link) for link in view.purified_from],
            purified_to=[_model_link(link) for link in view.purified_to],
            links={"self": links.model(view.id), "gate": links.gate(view.sha256)},
        )


class GateReasonOut(BaseModel):
    """Why; `code` is stable, `text` is for people."""

    code: str
    text: str
    scan_id: str | None


class GateOut(BaseModel):
    """May this exact file be used? Anything but a 200 with `allow` true means no."""

    model_config = ConfigDict(json_schema_extra={"examples": [GATE_EXAMPLE]})

    sha256: str
    allow: bool
    decision: GateDecision
    reasons: list[GateReasonOut] = Field(description="Codes: unknown, pending, failed, backdoored, inconclusive, ...")
    engine_versions: list[str] = Field(description="Of the scans considered.")
    policy_version: str

    @classmethod
    def of(cls, sha256: str, answer: GateAnswer) -> "GateOut":
        return cls(
            sha256=sha256,
            allow=answer.allow,
            decision=answer.decision,
            reasons=[GateReasonOut(code=r.code, text=r.text, scan_id=r.scan_id) for r in answer.reasons],
            engine_versions=list(answer.engine_versions),
            policy_version=answer.policy_version,
        )


def _model_link(link: ModelLink) -> ModelLinkOut:
    return ModelLinkOut(
        model_id=link.model_id, sha256=link.sha256, scan_id=link.scan_id, href=links.model(link.model_id)
    )


def _scan_fields(view: ScanView) -> dict[str, Any]:
    return {
        "id": view.id,
        "state": view.state,
        "stage": view.stage,
        "progress": view.progress,
        "eta_s": view.eta_s,
        "verdict": view.verdict,
        "score": view.score,
        "threshold": view.threshold,
        "statistics": list(view.statistics),
        "purification": None if view.purification_status is None else PurificationOut(status=view.purification_status),
        "error": None
        if view.error is None
        else ErrorOut(code=view.error.code, detail=view.error.detail, hint=view.error.hint),
        "model": ModelRefOut(
            id=view.model_id,
            sha256=view.model_sha256,
            filename=view.model_filename,
            hub=None if view.hub is None else HubCommitOut.of(view.hub),
        ),
        "reference_set": None if view.reference_sha256 is None else ReferenceRefOut(sha256=view.reference_sha256),
        "config": view.config,
        "preset": view.preset,
        "engine_version": view.engine_version,
        "attempt": view.attempt,
        "created_at": view.created_at,
        "started_at": view.started_at,
        "finished_at": view.finished_at,
        "cancel_requested": view.cancel_requested,
        "artifacts": [
            ArtifactOut(
                role=item.role,
                sha256=item.sha256,
                size_bytes=item.size_bytes,
                filename=item.filename,
                media_type=item.media_type,
                href=links.artifact(item.sha256),
            )
            for item in view.artifacts
        ],
        "links": _scan_links(view),
    }


def _scan_links(view: ScanView) -> dict[str, str]:
    found = {
        "self": links.scan(view.id),
        "model": links.model(view.model_id),
        "gate": links.gate(view.model_sha256),
    }
    if not view.state.is_terminal:
        found["cancel"] = links.cancel(view.id)
    if view.state is JobState.SUCCEEDED:
        found["report"] = links.report(view.id)
    for item in view.artifacts:
        if item.role is not ArtifactRole.TRIGGER_IMAGE:
            found[item.role.value] = links.artifact(item.sha256)
    return found
