"""A scan is submitted: files known to the organisation, one row, and a doorbell for the workers."""

from dataclasses import dataclass

from api.deps import Services
from api.ids import known_shape
from api.schemas import ModelRef, ReferenceRef, ScanOptions
from core.jobs.views import ModelContents, SubmitScan, Submitted

DEFAULT_NAME = "model"


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """What a model reference stands for.

    Attributes:
        sha256: names the model: of the one file, or of the manifest, whose bytes are in the store.
        filename: for display.
        contents: None for one file.
    """

    sha256: str
    filename: str
    contents: ModelContents | None


def resolve(services: Services, org_id: str, model: ModelRef) -> ResolvedModel:
    """Find out what is meant. Blocking (database, store; for seconds: the Hub).

    Raises:
        NotFoundError: `blob_not_found`, a blob that this organisation does not have.
        InvalidInputError: `invalid_manifest`, `invalid_hub_reference`.
        HubError, QuotaError, StorageFullError, SecretKeyError: see Materials.resolve.
    """
    if model.files is not None:
        manifest = services.jobs.manifest_of(org_id, [(file.path, file.blob) for file in model.files])
        services.materials.keep_manifest(manifest)
        return ResolvedModel(manifest.sha256, model.filename or DEFAULT_NAME, ModelContents(manifest))
    if model.hub_ref is not None:
        contents = services.materials.resolve(org_id, model.hub_ref)
        return ResolvedModel(contents.manifest.sha256, model.hub_ref.name, contents)
    assert model.blob is not None
    known = services.jobs.contents(org_id, model.blob)  # a manifest's digest names its model again
    return ResolvedModel(model.blob, model.filename or DEFAULT_NAME, known)


def resolve_reference(services: Services, org_id: str, reference: ReferenceRef | None) -> str | None:
    """The digest of the zip file that a scan is given. Raises NotFoundError (`reference_set_not_found`)."""
    if reference is None:
        return None
    if reference.set is not None:
        return services.jobs.reference_set(org_id, known_shape(reference.set, "refset", "reference_set")).sha256
    return reference.blob


def submit(
    services: Services, org_id: str, model: ModelRef, reference_sha256: str | None, options: ScanOptions
) -> Submitted:
    """Blocking (database, broker). The broker may be away: the sweeper announces the scan later.

    Raises:
        NotFoundError: a blob that this organisation has not uploaded.
        InvalidInputError, UnsupportedError: see ScanOptions.to_config and resolve.
    """
    config = options.to_config(has_reference=reference_sha256 is not None)
    resolved = resolve(services, org_id, model)
    submitted = services.jobs.submit(
        org_id,
        SubmitScan(
            model_sha256=resolved.sha256,
            model_filename=resolved.filename,
            reference_sha256=reference_sha256,
            config=config,
            force=options.force,
            contents=resolved.contents,
        ),
    )
    if not submitted.reused:
        from worker.dispatch import publish_after_commit  # Celery: not needed to answer the first request

        publish_after_commit(services.jobs, services.background, submitted.scan.id)
    return submitted
