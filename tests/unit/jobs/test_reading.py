"""Reading: views, pages, reports; and that no organisation sees another's."""

from collections.abc import Callable

import pytest

from core.config import ScanConfig
from core.domain import ArtifactRole, JobState, PurificationStatus, Verdict
from core.errors import AssayError, InvalidInputError, NotFoundError
from core.jobs.service import ScanFilter, SubmitScan
from tests.support.registry import Bench, digest, make_report


def test_succeeded_scan_shows_its_result(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=(b"purified.pth", b"purified.safetensors"))
    assert (scan.state, scan.stage, scan.progress, scan.eta_s) == (JobState.SUCCEEDED, None, 1.0, None)
    assert (scan.verdict, scan.score, scan.threshold) == (Verdict.BACKDOORED, 1.5, 1.0)
    assert [item["name"] for item in scan.statistics] == ["energy"]
    assert scan.purification_status is PurificationStatus.PUBLISHED
    assert [(item.role, item.sha256, item.size_bytes) for item in scan.artifacts] == [
        (ArtifactRole.PURIFIED_ORIGINAL, digest(b"purified.pth"), 12),
        (ArtifactRole.PURIFIED_SAFETENSORS, digest(b"purified.safetensors"), 20),
    ]
    assert scan.error is None


def test_report_comes_back_as_it_was_committed(bench: Bench) -> None:
    claim = bench.claimed()
    report = make_report(claim, Verdict.INCONCLUSIVE)
    bench.service.succeed(claim, report, [])
    document = bench.service.report(bench.org, claim.scan_id)
    assert type(report).model_validate(document) == report
    assert next(iter(document)) == "schema_version"


def test_infinite_score_becomes_null_in_the_report_only(bench: Bench) -> None:
    claim = bench.claimed()
    report = make_report(claim)
    report.detection.statistics[0].value = float("nan")
    assert bench.service.succeed(claim, report, [])
    assert bench.service.get(bench.org, claim.scan_id).statistics[0]["value"] is None


def test_scan_without_result_has_no_report(bench: Bench) -> None:
    scan_id = bench.submit().scan.id
    with pytest.raises(NotFoundError) as caught:
        bench.service.report(bench.org, scan_id)
    assert caught.value.code == "report_not_found"


def test_pages_cover_everything_once_newest_first(bench: Bench) -> None:
    ids = [bench.submit(seed=seed).scan.id for seed in range(7)]
    seen, cursor, sizes = [], None, []
    while True:
        page = bench.service.list(bench.org, limit=3, cursor=cursor)
        seen += [item.id for item in page.items]
        sizes.append(len(page.items))
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(ids, reverse=True)
    assert sizes == [3, 3, 1]


def test_pages_stay_put_while_scans_arrive(bench: Bench) -> None:
    ids = sorted((bench.submit(seed=seed).scan.id for seed in range(4)), reverse=True)
    first = bench.service.list(bench.org, limit=2)
    bench.submit(seed=99)
    second = bench.service.list(bench.org, limit=2, cursor=first.next_cursor)
    assert [item.id for item in first.items + second.items] == ids
    assert second.next_cursor is None


def test_filters(bench: Bench) -> None:
    clean = bench.finished(b"a")
    bad = bench.finished(b"b", Verdict.BACKDOORED)
    queued = bench.submit(b"c").scan

    def found(**filters: object) -> list[str]:
        return [item.id for item in bench.service.list(bench.org, ScanFilter(**filters)).items]  # type: ignore[arg-type]

    assert found(verdict=Verdict.CLEAN) == [clean.id]
    assert found(verdict=Verdict.BACKDOORED) == [bad.id]
    assert found(state=JobState.QUEUED) == [queued.id]
    assert found(state=JobState.SUCCEEDED) == [bad.id, clean.id]
    assert found(model_sha256=digest(b"a")) == [clean.id]
    assert found(state=JobState.QUEUED, verdict=Verdict.CLEAN) == []


@pytest.mark.parametrize("cursor", ["", "x", "scan_" + "0" * 100, "scan_é", "model_0"])
def test_invented_cursor(bench: Bench, cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="invalid_cursor"):
        bench.service.list(bench.org, cursor=cursor)


@pytest.mark.parametrize("limit", [-1, 0, 10**9])
def test_limit_is_brought_into_range(bench: Bench, limit: int) -> None:
    bench.submit()
    assert len(bench.service.list(bench.org, limit=limit).items) == 1


def test_model_with_lineage(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=(b"p.pth", b"p.safetensors"))
    suspect = bench.service.get_model(bench.org, scan.model_id)
    assert (suspect.architecture, suspect.num_targets) == ("preactresnet18", 10)
    assert [item.id for item in suspect.scans] == [scan.id]
    assert suspect.purified_from == []
    (link,) = suspect.purified_to
    assert (link.sha256, link.scan_id) == (digest(b"p.pth"), scan.id)

    purified = bench.service.get_model(bench.org, link.model_id)
    assert purified.id.startswith("model_")
    assert [(item.sha256, item.available) for item in purified.files] == [
        (digest(b"p.pth"), True),
        (digest(b"p.safetensors"), True),
    ]
    assert [(item.model_id, item.sha256) for item in purified.purified_from] == [(suspect.id, digest(b"model"))]


def test_scanning_either_purified_file_is_scanning_the_purified_model(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=(b"p.pth", b"p.safetensors"))
    model_id = bench.service.get_model(bench.org, scan.model_id).purified_to[0].model_id
    assert bench.submit(b"p.safetensors").scan.model_id == model_id
    assert bench.submit(b"p.pth").scan.model_id == model_id


def test_one_purified_file_for_both_roles(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=(b"same", b"same"))
    (link,) = bench.service.get_model(bench.org, scan.model_id).purified_to
    assert len(bench.service.get_model(bench.org, link.model_id).files) == 1


def test_weights_that_purification_did_not_change_are_no_child(bench: Bench) -> None:
    scan = bench.finished(purified=(b"model", b"model as safetensors"))
    view = bench.service.get_model(bench.org, scan.model_id)
    assert view.purified_to == view.purified_from == []


def test_artifact_tells_of_the_model_it_comes_from(bench: Bench) -> None:
    scan = bench.finished(verdict=Verdict.BACKDOORED, purified=(b"p.pth", b"p.safetensors"))
    record = bench.service.artifact(bench.org, digest(b"p.pth"))
    assert (record.role, record.produced_by) == (ArtifactRole.PURIFIED_ORIGINAL, scan.id)
    assert (record.size_bytes, record.media_type, record.model_verdict) == (5, "x/y", Verdict.BACKDOORED)
    suspect = bench.service.artifact(bench.org, digest(b"model"))
    assert (suspect.role, suspect.produced_by, suspect.model_verdict) == (None, None, Verdict.BACKDOORED)
    reference = bench.service.artifact(bench.org, digest(b"reference"))
    assert reference.model_verdict is None


Call = Callable[[Bench, str, str, str], object]

METHODS: dict[str, Call] = {
    "get": lambda bench, org, scan, model: bench.service.get(org, scan),
    "report": lambda bench, org, scan, model: bench.service.report(org, scan),
    "events": lambda bench, org, scan, model: bench.service.events(org, scan),
    "cancel": lambda bench, org, scan, model: bench.service.request_cancel(org, scan),
    "delete_scan": lambda bench, org, scan, model: bench.service.delete_scan(org, scan),
    "get_model": lambda bench, org, scan, model: bench.service.get_model(org, model),
    "delete_model": lambda bench, org, scan, model: bench.service.delete_model(org, model),
    "artifact": lambda bench, org, scan, model: bench.service.artifact(org, digest(b"model")),
    "submit": lambda bench, org, scan, model: bench.service.submit(
        org, SubmitScan(digest(b"model"), "m", None, ScanConfig())
    ),
    "list": lambda bench, org, scan, model: bench.service.list(org),
    "gate": lambda bench, org, scan, model: bench.service.gate(org, digest(b"model")),
    "has_blob": lambda bench, org, scan, model: bench.service.has_blob(org, digest(b"model")),
    "keys": lambda bench, org, scan, model: bench.keys.list(org),
}


@pytest.mark.parametrize("method", METHODS)
def test_foreign_is_answered_like_unknown(bench: Bench, method: str) -> None:
    """The same call about what another organisation has, and about what nobody has (any more)."""
    done = bench.finished()
    bench.keys.create(bench.org, "key", ["read"])
    stranger = bench.keys.create_org("stranger")

    def answer(scan_id: str, model_id: str) -> object:
        try:
            return METHODS[method](bench, stranger, scan_id, model_id)
        except AssayError as error:
            return type(error), error.code, error.detail, error.hint

    foreign = answer(done.id, done.model_id)
    assert bench.service.get(bench.org, done.id) == done
    bench.service.delete_model(bench.org, done.model_id)
    assert foreign == answer("scan_unknown", "model_unknown")


def test_equal_bytes_of_two_organisations_share_nothing_but_storage(bench: Bench) -> None:
    mine = bench.finished(verdict=Verdict.BACKDOORED)
    stranger = bench.keys.create_org("stranger")
    theirs = bench.submit(org=stranger)
    assert not theirs.reused
    assert theirs.scan.model_id != mine.model_id
    assert bench.service.artifact(stranger, digest(b"model")).model_verdict is None
    assert bench.count("blob") == 2
    bench.service.delete_model(bench.org, mine.model_id)
    assert bench.store.exists(digest(b"model"))
    assert bench.service.has_blob(stranger, digest(b"model"))
    assert not bench.service.has_blob(bench.org, digest(b"model"))
