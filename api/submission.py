"""A scan is submitted: files known to the organisation, one row, and a doorbell for the workers."""

from api.deps import Services
from api.schemas import ModelRef, ScanOptions
from core.jobs.views import SubmitScan, Submitted


def submit(
    services: Services, org_id: str, model: ModelRef, reference_sha256: str | None, options: ScanOptions
) -> Submitted:
    """Blocking (database, broker). The broker may be away: the sweeper announces the scan later.

    Raises:
        NotFoundError: a blob that this organisation has not uploaded.
        InvalidInputError, UnsupportedError: see ScanOptions.to_config.
    """
    config = options.to_config(has_reference=reference_sha256 is not None)
    submitted = services.jobs.submit(
        org_id,
        SubmitScan(
            model_sha256=model.blob,
            model_filename=model.filename,
            reference_sha256=reference_sha256,
            config=config,
            force=options.force,
        ),
    )
    if not submitted.reused:
        from worker.dispatch import publish_after_commit  # Celery: not needed to answer the first request

        publish_after_commit(services.jobs, services.background, submitted.scan.id)
    return submitted
