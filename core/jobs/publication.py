"""Writing down what a scan found: verdict, artifacts, purified model and lineage, in the caller's transaction."""

import json
from collections.abc import Sequence
from datetime import datetime

from core.domain import PURIFIED_ROLES
from core.errors import UnavailableError
from core.registry.orm import ScanArtifact, ScanResult
from core.registry.repositories.blobs import BlobRepository
from core.registry.repositories.leases import Moved
from core.registry.repositories.models import ModelRepository
from core.registry.repositories.scans import ScanRepository
from core.registry.session import Session
from core.report.schema import ArtifactInfo, Report
from core.storage.protocol import BlobStore


def publish_result(
    session: Session,
    store: BlobStore,
    scan: Moved,
    report: Report,
    artifacts: Sequence[ArtifactInfo],
    now: datetime,
) -> None:
    """Insert the result of `scan` (as LeaseRepository.transition returns it).

    Both files of the purified weights become one model, whose parent is the scanned one.

    Raises:
        UnavailableError: `artifact_missing`; storing the files and committing again helps.
    """
    blobs, models = BlobRepository(session), ModelRepository(session)
    for item in artifacts:
        if not store.exists(item.sha256):
            raise UnavailableError("artifact_missing", f"The artifact {item.filename} is not in the store.")
        blobs.register(scan.org_id, item.sha256, item.size_bytes, now, uploaded=False)

    document = json.loads(report.model_dump_json())  # JSON has no infinity and no NaN: they become null
    detection = report.detection
    ScanRepository(session).add_result(
        ScanResult(
            scan_id=scan.id,
            attempt=scan.attempt,
            verdict=detection.verdict,
            score=detection.score,
            threshold=detection.threshold,
            statistics=document["detection"]["statistics"],
            purification_status=report.purification.status,
            report=document,
            created_at=now,
        ),
        [
            ScanArtifact(
                scan_id=scan.id,
                position=position,
                role=item.role,
                sha256=item.sha256,
                filename=item.filename[:255],
                media_type=item.media_type[:255],
            )
            for position, item in enumerate(artifacts)
        ],
    )
    kind = report.model.kind
    models.describe(scan.checkpoint_id, kind, report.model.architecture[:255], report.model.num_classes)
    purified = sorted(
        (item for item in artifacts if item.role in PURIFIED_ROLES), key=lambda item: PURIFIED_ROLES.index(item.role)
    )
    if purified:
        files = [(item.sha256, item.filename[:255]) for item in purified]
        child = models.ensure(scan.org_id, files, kind, now)
        models.describe(child, kind, report.model.architecture[:255], report.model.num_classes)
        models.link(child, scan.checkpoint_id, scan.id)
