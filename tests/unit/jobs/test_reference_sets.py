"""Rows of reference sets on both databases."""

import pytest

from core.errors import ConflictError, NotFoundError
from core.jobs.reference_sets import NewReferenceSet, ReferenceSetView
from tests.support.registry import Bench


def make(bench: Bench, name: str = "shirts", data: bytes = b"archive", org: str | None = None) -> ReferenceSetView:
    org = org or bench.org
    new = NewReferenceSet(name, bench.upload(data, org), {"blob": "x"}, {"images": 10})
    return bench.service.create_reference_set(org, new)[0]


def test_made_read_and_listed(bench: Bench) -> None:
    made = make(bench)
    assert bench.service.reference_set(bench.org, made.id) == made
    assert (made.name, made.size_bytes, made.facts) == ("shirts", 7, {"images": 10})
    later = make(bench, "later")
    first = bench.service.reference_sets(bench.org, 1)
    assert [item.id for item in first.items] == [later.id]
    assert [item.id for item in bench.service.reference_sets(bench.org, 5, first.next_cursor).items] == [made.id]


def test_one_name_is_one_archive(bench: Bench) -> None:
    made = make(bench)
    assert make(bench).id == made.id
    with pytest.raises(ConflictError, match="reference_set_exists"):
        make(bench, data=b"other")
    assert make(bench, org=bench.keys.create_org("other")).id != made.id


def test_only_for_its_organisation(bench: Bench) -> None:
    made, other = make(bench), bench.keys.create_org("other")
    for call in (bench.service.reference_set, bench.service.delete_reference_set):
        with pytest.raises(NotFoundError, match="reference_set_not_found"):
            call(other, made.id)
    with pytest.raises(NotFoundError, match="blob_not_found"):
        bench.service.create_reference_set(other, NewReferenceSet("x", made.sha256, {}, {}))
    assert bench.service.reference_sets(other, 10).items == []


def test_deleting_leaves_what_others_need(bench: Bench) -> None:
    first, second = make(bench, "first"), make(bench, "second")
    scan = bench.submit(b"model", b"archive").scan
    for made in (first, second):
        bench.service.delete_reference_set(bench.org, made.id)
        assert bench.store.exists(first.sha256)
    bench.service.request_cancel(bench.org, scan.id)
    bench.service.delete_model(bench.org, scan.model_id)
    assert not bench.store.exists(first.sha256)


def test_a_set_keeps_its_images_when_models_go(bench: Bench) -> None:
    made = make(bench)
    scan = bench.submit(b"model", b"archive").scan
    bench.service.request_cancel(bench.org, scan.id)
    bench.service.delete_model(bench.org, scan.model_id)
    assert bench.store.exists(made.sha256)
    assert bench.service.has_blob(bench.org, made.sha256)
    bench.service.delete_reference_set(bench.org, made.id)
    assert not bench.store.exists(made.sha256)
    assert bench.service.check_store().missing == []
