"""A job service on a real database and a real store, and reports to commit with it."""

import hashlib
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import text

from core import ENGINE_VERSION
from core.config import ScanConfig
from core.domain import ArtifactRole, ModelKind, Preset, PurificationStatus, PurifyMode, Verdict
from core.jobs.service import ClaimedJob, JobService, ScanView, SubmitScan, Submitted
from core.registry.ids import DEFAULT_ORG
from core.registry.keys import ApiKeyService
from core.registry.session import Database
from core.report import schema
from core.settings import Settings
from core.storage import Blob, LocalBlobStore


@dataclass
class Bench:
    """What tests of the job service work with; `org` is the organisation meant where none is named."""

    db: Database
    store: LocalBlobStore
    settings: Settings
    org: str = DEFAULT_ORG
    service: JobService = field(init=False)
    keys: ApiKeyService = field(init=False)

    def __post_init__(self) -> None:
        self.service = JobService(self.db, self.store, self.settings)
        self.keys = ApiKeyService(self.db)

    @classmethod
    def at(cls, db: Database, folder: Path, **settings: Any) -> "Bench":
        values = {"data_dir": folder, "free_space_reserve_bytes": 0, **settings}
        return cls(db, LocalBlobStore(folder / "blobs"), Settings(**values))

    def put(self, data: bytes) -> Blob:
        """Into the store, unknown to any organisation."""
        with self.store.writer() as writer:
            writer.write(data)
            return writer.commit()

    def upload(self, data: bytes = b"model", org: str | None = None) -> str:
        """Into the store and registered; the digest."""
        blob = self.put(data)
        self.service.register_blob(org or self.org, blob)
        return blob.sha256

    def submit(
        self,
        data: bytes = b"model",
        reference: bytes | None = b"reference",
        *,
        org: str | None = None,
        force: bool = False,
        filename: str = "model.pth",
        **config: Any,
    ) -> Submitted:
        """Upload and submit; `config` are fields of ScanConfig."""
        org = org or self.org
        request = SubmitScan(
            model_sha256=self.upload(data, org),
            model_filename=filename,
            reference_sha256=None if reference is None else self.upload(reference, org),
            config=ScanConfig(**config),
            force=force,
        )
        return self.service.submit(org, request)

    def claimed(self, data: bytes = b"model", **options: Any) -> ClaimedJob:
        """Submit and claim."""
        claim = self.service.claim(self.submit(data, **options).scan.id, "worker")
        assert claim is not None
        return claim

    def finished(
        self,
        data: bytes = b"model",
        verdict: Verdict = Verdict.CLEAN,
        *,
        purified: tuple[bytes, ...] = (),
        passed: bool = True,
        accuracy: float = 0.9,
        **options: Any,
    ) -> ScanView:
        """Submit, claim and commit a result; `purified` are the two purified files."""
        claim = self.claimed(data, **options)
        artifacts = [self.artifact(role, item) for role, item in zip(_PURIFIED, purified, strict=False)]
        document = make_report(claim, verdict, artifacts=artifacts, passed=passed, accuracy=accuracy)
        assert self.service.succeed(claim, document, artifacts)
        return self.service.get(claim.org_id, claim.scan_id)

    def artifact(self, role: ArtifactRole, data: bytes) -> schema.ArtifactInfo:
        """A file in the store, as a report names it."""
        blob = self.put(data)
        return schema.ArtifactInfo(
            role=role, sha256=blob.sha256, size_bytes=blob.size_bytes, filename=f"{role}.bin", media_type="x/y"
        )

    def age(self, scan_id: str, by_s: float) -> None:
        """Let `by_s` seconds pass for the lease, back-off and announcement of a scan."""
        with self.db.begin() as session:
            from core.registry.orm import ScanJob

            job = session.get_one(ScanJob, scan_id)
            for name in ("lease_expires_at", "not_before", "published_at"):
                value = getattr(job, name)
                if value is not None:
                    setattr(job, name, value - timedelta(seconds=by_s))

    def count(self, table: str) -> int:
        with self.db.read() as session:
            return int(session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


_PURIFIED = (ArtifactRole.PURIFIED_ORIGINAL, ArtifactRole.PURIFIED_SAFETENSORS)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make_detection(verdict: Verdict = Verdict.CLEAN) -> schema.Detection:
    return schema.Detection(
        verdict=verdict,
        score=1.5 if verdict is Verdict.BACKDOORED else 0.5,
        threshold=1.0,
        provenance=schema.ThresholdProvenance(calibration="test", clean_models=1, backdoored_models=1, note=""),
        statistics=[
            schema.Statistic(name="energy", value=0.1, threshold=0.2, direction="below", suspicious=False),
        ],
        targets=[],
        coverage=["patch"],
        reasons=["because"],
    )


def make_report(
    claim: ClaimedJob,
    verdict: Verdict = Verdict.CLEAN,
    *,
    artifacts: list[schema.ArtifactInfo] | None = None,
    passed: bool = True,
    accuracy: float = 0.9,
    labelled: bool = True,
    classes_present: int = 10,
) -> schema.Report:
    """A report as the engine writes it for `claim`."""
    artifacts = artifacts or []
    config = ScanConfig.from_json(claim.config)
    reference = utility = verification = None
    if claim.reference_sha256 is not None:
        reference = schema.ReferenceInfo(
            sha256=claim.reference_sha256,
            images=100,
            images_used=100,
            labelled=labelled,
            classes_present=classes_present,
        )
        measure = "accuracy" if labelled else "agreement_with_suspect"
        utility = schema.Utility(measure=measure, images=100, before=accuracy)
    if artifacts:
        verification = schema.Verification(
            detection=make_detection(), passed=passed, inverted_flip_before=1, inverted_flip_after=0, reattack=[]
        )
    status = PurificationStatus.PUBLISHED if artifacts else PurificationStatus.NOT_NEEDED
    return schema.Report(
        engine=schema.EngineInfo(version=ENGINE_VERSION, torch="2", threads=1, device="cpu"),
        config_digest=config.digest,
        preset=Preset(claim.config["preset"]),
        purify=PurifyMode.AUTO,
        seed=0,
        model=schema.ModelInfo(
            sha256=claim.model_sha256,
            filename=claim.model_filename,
            size_bytes=5,
            container="torch-zip",
            kind=ModelKind.CLASSIFIER,
            architecture="preactresnet18",
            architecture_source="inferred",
            num_classes=10,
            input_shape=(3, 32, 32),
            parameters=1,
            preprocess=schema.PreprocessInfo(mean=[0], std=[1], size=(32, 32), source="request"),
        ),
        reference_set=reference,
        utility=utility,
        detection=make_detection(verdict),
        purification=schema.Purification(status=status, verification=verification),
        artifacts=artifacts,
        timings=[],
    )
