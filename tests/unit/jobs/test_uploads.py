"""Rows and bytes of uploads that arrive in several goes, on both databases."""

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from core.errors import ConflictError, InvalidInputError, LockedError, NotFoundError, QuotaError, UnavailableError
from core.jobs.uploads import NewUpload, UploadView
from core.storage import LocalBlobStore
from tests.support.registry import Bench

DATA = b"some bytes" * 100
NEW = NewUpload(len(DATA), None, "model.pth", "filename bW9kZWw=")


def write(bench: Bench, view: UploadView, data: bytes) -> UploadView:
    with bench.service.write_upload(bench.org, view.id) as (found, partial):
        partial.write(data)
        return bench.service.complete_upload(found, partial) if partial.size == found.length else found


def age(bench: Bench, upload_id: str) -> None:
    with bench.db.begin() as session:
        session.execute(
            text("UPDATE upload SET expires_at = :past WHERE id = :id"),
            {"past": "2001-01-01 00:00:00+00:00", "id": upload_id},
        )


def test_from_nothing_to_a_blob(bench: Bench) -> None:
    view = bench.service.create_upload(bench.org, NEW)
    assert (view.offset, view.blob_sha256, view.filename) == (0, None, "model.pth")
    write(bench, view, DATA[:300])
    assert bench.service.upload(bench.org, view.id).offset == 300
    assert [item.id for item in bench.service.open_uploads(bench.org)] == [view.id]
    done = write(bench, view, DATA[300:])
    assert done.blob_sha256 is not None
    assert bench.service.has_blob(bench.org, done.blob_sha256)
    assert bench.service.open_uploads(bench.org) == []
    assert bench.service.upload(bench.org, view.id).offset == len(DATA)
    with pytest.raises(ConflictError, match="upload_complete"), bench.service.write_upload(bench.org, view.id):
        pass


def test_each_write_extends_its_life(bench: Bench) -> None:
    view = bench.service.create_upload(bench.org, NEW)
    with bench.db.begin() as session:
        now = bench.db.now(session)
        session.execute(
            text("UPDATE upload SET expires_at = :later WHERE id = :id"),
            {"later": f"{now.year + 2}-01-01 00:00:00+00:00", "id": view.id},
        )
    write(bench, view, DATA[:10])
    left = bench.service.upload(bench.org, view.id).expires_at - now
    assert timedelta(hours=23) < left < timedelta(hours=25)


def test_an_expired_upload_is_gone_and_swept(bench: Bench) -> None:
    view = bench.service.create_upload(bench.org, NEW)
    write(bench, view, DATA[:10])
    age(bench, view.id)
    for call in (bench.service.upload, bench.service.settle_upload, bench.service.delete_upload):
        with pytest.raises(NotFoundError, match="upload_not_found"):
            call(bench.org, view.id)
    assert bench.service.open_uploads(bench.org) == []
    assert bench.service.expire_uploads() == 1
    assert list(bench.store.partial_names(-60)) == []


def test_an_expired_upload_that_is_being_written_to_is_left_alone(bench: Bench) -> None:
    view = bench.service.create_upload(bench.org, NEW)
    with bench.service.write_upload(bench.org, view.id) as (_, partial):
        partial.write(DATA[:10])
        age(bench, view.id)
        assert bench.service.expire_uploads() == 0
        assert list(bench.store.partial_names(-60)) == [view.id]
    assert bench.service.expire_uploads() == 1


def test_only_one_writes(bench: Bench) -> None:
    view = bench.service.create_upload(bench.org, NEW)
    with bench.service.write_upload(bench.org, view.id):
        with pytest.raises(LockedError), bench.service.write_upload(bench.org, view.id):
            pass
        with pytest.raises(LockedError):
            bench.service.delete_upload(bench.org, view.id)
    bench.service.delete_upload(bench.org, view.id)


def test_an_upload_deleted_while_somebody_waits_for_it_leaves_no_file(bench: Bench) -> None:
    """Whoever found the row before it was deleted, and opened the file after."""
    view = bench.service.create_upload(bench.org, NEW)
    original = bench.service.upload

    def read_then_deleted(org_id: str, upload_id: str) -> UploadView:
        found = original(org_id, upload_id)
        bench.service.upload = original  # type: ignore[method-assign]
        bench.service.delete_upload(org_id, upload_id)
        return found

    bench.service.upload = read_then_deleted  # type: ignore[method-assign]
    with pytest.raises(NotFoundError), bench.service.write_upload(bench.org, view.id):
        pass
    assert list(bench.store.partial_names(-60)) == []


def test_what_is_complete_survives_a_database_that_is_away(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    view = bench.service.create_upload(bench.org, NEW)

    def away(*_: object, **__: object) -> None:
        raise UnavailableError("database_unavailable", "away")

    monkeypatch.setattr("core.jobs.uploads.BlobRepository.register", away)
    with pytest.raises(UnavailableError):
        write(bench, view, DATA)
    monkeypatch.undo()
    restarted = Bench(bench.db, LocalBlobStore(bench.settings.blobs_dir), bench.settings)
    done = restarted.service.settle_upload(bench.org, view.id)
    assert done.blob_sha256 is not None
    assert bench.store.path(done.blob_sha256).read_bytes() == DATA
    assert list(bench.store.partial_names(-60)) == []


def test_a_wrong_digest_takes_the_upload_along(bench: Bench) -> None:
    view = bench.service.create_upload(bench.org, NewUpload(3, "0" * 64, "x"))
    with pytest.raises(InvalidInputError, match="digest_mismatch"):
        write(bench, view, b"abc")
    with pytest.raises(NotFoundError):
        bench.service.upload(bench.org, view.id)
    assert bench.service.check_store().orphans_removed == 0


def test_the_blob_may_be_deleted_before_the_row_expires(bench: Bench) -> None:
    view = write(bench, bench.service.create_upload(bench.org, NEW), DATA)
    scan = bench.submit(DATA, None).scan
    bench.service.request_cancel(bench.org, scan.id)
    bench.service.delete_model(bench.org, scan.model_id)
    assert bench.service.upload(bench.org, view.id).blob_sha256 is not None
    assert not bench.service.has_blob(bench.org, str(view.blob_sha256))


def test_quotas_count_what_is_announced_and_what_is_stored(bench_with: Callable[..., Bench]) -> None:
    bench = bench_with(max_open_uploads=3, max_stored_bytes=1000)
    other = bench.keys.create_org("other")
    first = bench.service.create_upload(bench.org, NewUpload(600, None, "x"))
    with pytest.raises(QuotaError, match="quota_exceeded"):
        bench.service.create_upload(bench.org, NewUpload(401, None, "x"))
    bench.service.create_upload(other, NewUpload(1000, None, "x"))
    bench.upload(b"x" * 300)
    bench.service.check_stored_quota(bench.org, 100)
    with pytest.raises(QuotaError, match="quota_exceeded"):
        bench.service.check_stored_quota(bench.org, 101)
    bench.service.delete_upload(bench.org, first.id)
    for _ in range(3):
        bench.service.create_upload(bench.org, NewUpload(1, None, "x"))
    with pytest.raises(QuotaError, match="too_many_uploads"):
        bench.service.create_upload(bench.org, NewUpload(1, None, "x"))


def test_an_expired_upload_does_not_count(bench_with: Callable[..., Bench]) -> None:
    bench = bench_with(max_open_uploads=1)
    age(bench, bench.service.create_upload(bench.org, NEW).id)
    bench.service.create_upload(bench.org, NEW)


def test_old_bytes_without_a_row_are_swept(bench: Bench, tmp_path: Path) -> None:
    folder = tmp_path / "blobs" / "partial"
    for name, is_old in (("upload_old", True), ("upload_new", False), ("Not ours", True)):
        (folder / name).write_bytes(b"x")
        if is_old:
            os.utime(folder / name, (0, 0))
    assert bench.service.expire_uploads() == 1
    assert sorted(path.name for path in folder.iterdir()) == ["Not ours", "upload_new"]
