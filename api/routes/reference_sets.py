"""Reference sets: clean images with a name, looked through once and used by many scans."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from api import links
from api.auth import MayAdminister, MayRead, MayScan
from api.bodies import json_body, read_json
from api.deps import Has, Services
from api.ids import known_shape
from api.pagination import Limit, link_next
from api.reference_zip import NamedImage, zip_files, zip_images
from api.routes import problems_for
from api.routes.blobs import check_room
from api.schemas import ImageRef, ReferenceSetRequest
from api.slots import Slots
from api.views_intake import ReferenceSetOut, ReferenceSetPage
from core.jobs.reference_sets import NewReferenceSet
from core.jobs.wording import blob_not_found
from worker.children import reference_child
from worker.datasets import fetch_images
from worker.reference_sets import check_reference_set
from worker.workspace import job_folder, work_root

router = APIRouter(prefix="/v1/reference-sets", tags=["reference sets"])

_slots = Slots(2, "checks_busy", "reference sets are being looked through")


@router.post(
    "",
    operation_id="create_reference_set",
    summary="Make a reference set",
    status_code=201,
    response_model=ReferenceSetOut,
    responses={
        200: {"model": ReferenceSetOut, "description": "There is one of that name with the same images."},
        **problems_for(400, 401, 403, 404, 409, 413, 422, 429, 500, 502, 503, 507),
    },
    openapi_extra=json_body(ReferenceSetRequest),
)
async def create_reference_set(request: Request, response: Response, who: MayScan, services: Has) -> ReferenceSetOut:
    """Every image is decoded before the answer, in a process of its own. What cannot be used is in `facts.rejected`
    with its reason; a set of which too little can be used is refused."""
    asked = await read_json(request, ReferenceSetRequest)
    made, created = await run_in_threadpool(_create, services, who.org_id, asked)
    response.status_code = 201 if created else 200
    response.headers["Location"] = links.reference_set(made.id)
    return made


@router.get(
    "",
    operation_id="list_reference_sets",
    summary="List reference sets",
    response_model=ReferenceSetPage,
    responses=problems_for(401, 403, 422),
)
def list_reference_sets(
    request: Request,
    response: Response,
    who: MayRead,
    services: Has,
    limit: Limit = 50,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9a-z_]{1,80}$", description="From the Link header.")] = None,
) -> ReferenceSetPage:
    """Newest first."""
    page = services.jobs.reference_sets(who.org_id, limit, cursor)
    link_next(request, response, page.next_cursor)
    return ReferenceSetPage(items=[ReferenceSetOut.of(view) for view in page.items], next_cursor=page.next_cursor)


@router.get(
    "/{reference_set_id}",
    operation_id="get_reference_set",
    summary="A reference set",
    response_model=ReferenceSetOut,
    responses=problems_for(401, 403, 404),
)
def get_reference_set(reference_set_id: str, who: MayRead, services: Has) -> ReferenceSetOut:
    """What is in it. How it fits a model is in the report of each scan: that depends on the model's classes."""
    return ReferenceSetOut.of(services.jobs.reference_set(who.org_id, _known(reference_set_id)))


@router.delete(
    "/{reference_set_id}",
    operation_id="delete_reference_set",
    summary="Delete a reference set",
    status_code=204,
    responses=problems_for(401, 403, 404),
)
def delete_reference_set(reference_set_id: str, who: MayAdminister, services: Has) -> None:
    """Its images are removed unless a scan or another set has them; scans that used it keep them."""
    services.jobs.delete_reference_set(who.org_id, _known(reference_set_id))


def _known(set_id: str) -> str:
    return known_shape(set_id, "refset", "reference_set")


def _create(services: Services, org_id: str, asked: ReferenceSetRequest) -> tuple[ReferenceSetOut, bool]:
    """Blocking (store, database, a child process)."""
    with _slots.one():
        with _archive(services, org_id, asked) as (path, source):
            facts = check_reference_set(
                path,
                work_root(services.settings.data_dir),
                reference_child(services.settings.sandbox),
                should_stop=services.stopping.is_set,
            )
            sha256 = asked.blob or _keep(services, org_id, path)
        view, created = services.jobs.create_reference_set(
            org_id, NewReferenceSet(asked.name, sha256, source, facts.model_dump(mode="json"))
        )
    return ReferenceSetOut.of(view), created


@contextmanager
def _archive(services: Services, org_id: str, asked: ReferenceSetRequest) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The file to look through, and what to note about where it comes from."""
    if asked.blob is not None:
        yield _blob(services, org_id, asked.blob), {"blob": asked.blob}
        return
    with job_folder(work_root(services.settings.data_dir), "images", 1) as folder:
        target = folder / "images.zip"
        if asked.images is not None:
            yield target, _pack_images(services, org_id, asked.images, target)
        else:
            yield _pack_dataset(services, org_id, asked, folder, target)


def _pack_images(services: Services, org_id: str, asked: list[ImageRef], target: Path) -> dict[str, Any]:
    images = [_image(services, org_id, item) for item in asked]
    _check_room(services, org_id, sum(image.location.stat().st_size for image in images))
    zip_images(images, target)
    return {"images": len(images)}


def _pack_dataset(
    services: Services, org_id: str, asked: ReferenceSetRequest, folder: Path, target: Path
) -> tuple[Path, dict[str, Any]]:
    ref = asked.hub_ref
    assert ref is not None
    (folder / "fetched").mkdir()
    fetched = fetch_images(
        services.materials.desk,
        org_id,
        ref,
        asked.split,
        folder / "fetched",
        check_room=lambda size: _check_room(services, org_id, size),
        should_stop=services.stopping.is_set,
    )
    source = {"hub": ref.repo, "revision": ref.revision, "commit": fetched.commit, "split": asked.split}
    if fetched.is_archive:
        return fetched.files[0][1], source | {"archive": fetched.files[0][0], "archives_available": fetched.available}
    zip_files(fetched.files, target)
    return target, source | {"images": len(fetched.files), "images_available": fetched.available}


def _check_room(services: Services, org_id: str, size: int) -> None:
    """For the images, and once more for the archive that is made of them."""
    check_room(services, 2 * size)
    services.jobs.check_stored_quota(org_id, size)


def _image(services: Services, org_id: str, item: ImageRef) -> NamedImage:
    label = None if item.label is None else str(item.label)
    return NamedImage(_blob(services, org_id, item.blob, item.filename), item.filename, label, item.caption)


def _blob(services: Services, org_id: str, sha256: str, name: str = "") -> Path:
    if not services.jobs.has_blob(org_id, sha256):
        raise blob_not_found(name)
    return services.materials.verified(sha256)


def _keep(services: Services, org_id: str, path: Path) -> str:
    """Store the archive that was made or fetched."""
    blob = services.store.put_file(path)
    services.jobs.register_blob(org_id, blob)
    return blob.sha256
