"""Models of several files: whose they are, what is kept for them, and what goes with them."""

import pytest

from core.config import ScanConfig
from core.domain import JobState, Verdict
from core.errors import InvalidInputError, NotFoundError, UnavailableError
from core.jobs.service import HubCommit, ModelContents, SubmitScan, Submitted
from core.manifest import Manifest, ManifestFile
from core.registry.ids import DEFAULT_ORG
from tests.support.registry import Bench, digest, make_report

COMMIT, OTHER_COMMIT = "c" * 40, "d" * 40


def manifest(**files: bytes) -> Manifest:
    return Manifest.of(ManifestFile(f"{name}.json", digest(data), len(data)) for name, data in files.items())


def submit(
    bench: Bench, made: Manifest, *, org: str = DEFAULT_ORG, hub: HubCommit | None = None, force: bool = False
) -> Submitted:
    bench.put(made.to_bytes())
    request = SubmitScan(made.sha256, "name", None, ScanConfig(), force, ModelContents(made, hub))
    return bench.service.submit(org, request)


def at(commit: str, revision: str = "main") -> HubCommit:
    return HubCommit("org/name", revision, commit, "1", ("README.md",))


def test_uploaded_files_make_a_model(bench: Bench) -> None:
    a, b = bench.upload(b"aa"), bench.upload(b"bbb")
    made = bench.service.manifest_of(bench.org, [("b.json", b), ("sub/a.json", a)])
    assert [(file.path, file.size_bytes) for file in made.files] == [("b.json", 3), ("sub/a.json", 2)]
    submitted = submit(bench, made)
    assert not submitted.reused
    assert submitted.scan.model_sha256 == made.sha256
    assert submitted.scan.hub is None
    claim = bench.service.claim(submitted.scan.id, "worker")
    assert claim is not None
    assert claim.contents == ModelContents(made)
    model = bench.service.get_model(bench.org, submitted.scan.model_id)
    assert model.sha256 == made.sha256
    assert [(file.filename, file.sha256, file.available) for file in model.files] == [
        ("b.json", b, True),
        ("sub/a.json", a, True),
    ]


def test_a_single_file_has_no_contents(bench: Bench) -> None:
    assert bench.claimed(b"one").contents is None


def test_files_of_others_do_not_exist(bench: Bench) -> None:
    mine, theirs = bench.upload(b"mine"), bench.upload(b"theirs", bench.keys.create_org("other"))
    for sha256 in (theirs, digest(b"nobody's")):
        with pytest.raises(NotFoundError) as caught:
            bench.service.manifest_of(bench.org, [("a.json", mine), ("b.json", sha256)])
        assert (caught.value.code, caught.value.detail) == ("blob_not_found", "There is no such blob for b.json.")
    forged = manifest(a=b"mine", b=b"theirs")
    with pytest.raises(NotFoundError, match="blob_not_found"):
        submit(bench, forged)
    assert bench.count("manifest_file") == 0


def test_the_bytes_of_a_manifest_are_no_way_to_its_files(bench: Bench) -> None:
    """Whoever uploads a copy of another's manifest has a file of JSON, and nothing that it names."""
    bench.upload(b"mine")
    made = manifest(a=b"mine")
    submit(bench, made)
    other = bench.keys.create_org("other")
    bench.upload(made.to_bytes(), other)
    scan = bench.service.submit(other, SubmitScan(made.sha256, "x", None, ScanConfig())).scan
    claim = bench.service.claim(scan.id, "worker")
    assert claim is not None
    assert claim.contents is None
    assert bench.service.contents(other, made.sha256) is None
    assert bench.service.contents(bench.org, made.sha256) is not None


def test_sizes_must_be_true(bench: Bench) -> None:
    bench.upload(b"mine")
    forged = Manifest.of([ManifestFile("a.json", digest(b"mine"), 5)])
    with pytest.raises(InvalidInputError, match="invalid_manifest"):
        submit(bench, forged)


def test_the_manifest_must_be_stored(bench: Bench) -> None:
    bench.upload(b"mine")
    made = manifest(a=b"mine")
    with pytest.raises(UnavailableError, match="blob_vanished"):
        bench.service.submit(bench.org, SubmitScan(made.sha256, "x", None, ScanConfig(), False, ModelContents(made)))


def test_files_of_a_hub_may_come_later(bench: Bench) -> None:
    made = manifest(config=b"{}", weights=b"large")
    bench.upload(b"{}")
    bench.upload(b"large", bench.keys.create_org("other"))  # theirs: no reason not to fetch ours
    scan = submit(bench, made, hub=at(COMMIT)).scan
    assert scan.hub == at(COMMIT)
    claim = bench.service.claim(scan.id, "worker")
    assert claim is not None
    assert claim.contents is not None
    assert claim.contents.hub == at(COMMIT)
    assert [file.path for file in bench.service.files_to_fetch(bench.org, made)] == ["weights.json"]
    model = bench.service.get_model(bench.org, scan.model_id)
    assert [file.available for file in model.files] == [True, False]
    assert model.hub == [at(COMMIT)]
    bench.upload(b"large")
    assert bench.service.files_to_fetch(bench.org, made) == []


def test_equal_contents_of_another_commit_are_the_same_model(bench: Bench) -> None:
    made = manifest(config=b"{}")
    bench.upload(b"{}")
    first = submit(bench, made, hub=at(COMMIT))
    claim = bench.service.claim(first.scan.id, "worker")
    assert claim is not None
    assert bench.service.succeed(claim, make_report(claim, Verdict.CLEAN), [])
    second = submit(bench, made, hub=at(OTHER_COMMIT))
    assert second.reused
    assert second.scan.id == first.scan.id
    assert second.scan.hub == at(COMMIT)  # what it was made from
    model = bench.service.get_model(bench.org, first.scan.model_id)
    assert [item.commit for item in model.hub] == [OTHER_COMMIT, COMMIT]
    again = submit(bench, made, hub=at(OTHER_COMMIT), force=True)
    assert again.scan.hub == at(OTHER_COMMIT)
    assert bench.count("hub_reference") == 2


def test_what_a_commit_was_resolved_to_is_known_to_its_organisation(bench: Bench) -> None:
    made = manifest(config=b"{}")
    bench.upload(b"{}")
    submit(bench, made, hub=at(COMMIT, "v1"))
    known = bench.service.at_commit(bench.org, "org/name", COMMIT, "1")
    assert known is not None
    assert (known.manifest, known.hub) == (made, at(COMMIT, "v1"))
    for org, repo, commit, rules in (
        (bench.keys.create_org("other"), "org/name", COMMIT, "1"),
        (bench.org, "org/other", COMMIT, "1"),
        (bench.org, "org/name", OTHER_COMMIT, "1"),
        (bench.org, "org/name", COMMIT, "2"),
    ):
        assert bench.service.at_commit(org, repo, commit, rules) is None


def test_files_are_known_again_by_gits_names(bench: Bench) -> None:
    made, other = manifest(config=b"{}"), bench.keys.create_org("other")
    bench.upload(b"{}")
    bench.put(made.to_bytes())
    contents = ModelContents(made, at(COMMIT), {"config.json": "e" * 40})
    bench.service.submit(bench.org, SubmitScan(made.sha256, "x", None, ScanConfig(), False, contents))
    assert bench.service.known_files(bench.org, ["e" * 40, "f" * 40]) == {"e" * 40: (digest(b"{}"), 2)}
    assert bench.service.known_files(other, ["e" * 40]) == {}


def test_files_stay_while_a_manifest_names_them(bench: Bench) -> None:
    shared, own = bench.upload(b"shared"), bench.upload(b"own")
    first = submit(bench, manifest(a=b"shared")).scan
    second = submit(bench, manifest(a=b"shared", b=b"own")).scan
    for scan in (first, second):
        bench.service.request_cancel(bench.org, scan.id)
    bench.service.delete_model(bench.org, second.model_id)
    assert bench.store.exists(shared)
    assert not bench.store.exists(own)
    assert not bench.store.exists(second.model_sha256)
    assert bench.count("manifest_file") == 1
    assert bench.service.check_store().missing == []
    bench.service.delete_model(bench.org, first.model_id)
    assert not bench.store.exists(shared)
    assert bench.count("manifest_file") == bench.count("blob") == 0


def test_a_file_that_is_a_model_of_its_own_stays_one(bench: Bench) -> None:
    alone = bench.submit(b"weights", reference=None).scan
    whole = submit(bench, manifest(a=b"weights")).scan
    for scan in (alone, whole):
        bench.service.request_cancel(bench.org, scan.id)
    bench.service.delete_model(bench.org, alone.model_id)
    assert bench.store.exists(digest(b"weights"))
    assert bench.service.has_blob(bench.org, digest(b"weights"))
    bench.service.delete_model(bench.org, whole.model_id)
    assert not bench.store.exists(digest(b"weights"))


def test_a_deleted_scan_leaves_its_model_and_where_it_came_from(bench: Bench) -> None:
    made = manifest(config=b"{}")
    bench.upload(b"{}")
    scan = submit(bench, made, hub=at(COMMIT)).scan
    bench.service.request_cancel(bench.org, scan.id)
    bench.service.delete_scan(bench.org, scan.id)
    assert bench.service.get_model(bench.org, scan.model_id).hub == [at(COMMIT)]
    bench.service.delete_model(bench.org, scan.model_id)
    assert bench.count("hub_reference") == bench.count("manifest_file") == 0


def test_the_gate_and_lineage_know_a_model_by_its_manifest(bench: Bench) -> None:
    bench.upload(b"aa")
    made = manifest(a=b"aa")
    scan = submit(bench, made).scan
    claim = bench.service.claim(scan.id, "worker")
    assert claim is not None
    from core.domain import ArtifactRole

    roles = (ArtifactRole.PURIFIED_REPOSITORY, ArtifactRole.PURIFIED_SAFETENSORS)
    artifacts = [bench.artifact(role, f"pure {role}".encode()) for role in roles]
    report = make_report(claim, Verdict.BACKDOORED, artifacts=artifacts)
    assert bench.service.succeed(claim, report, artifacts)
    assert bench.service.get(bench.org, scan.id).state is JobState.SUCCEEDED
    answer = bench.service.gate(bench.org, made.sha256)
    assert [reason.code for reason in answer.reasons] == ["backdoored"]
    [child] = bench.service.get_model(bench.org, scan.model_id).purified_to
    assert child.sha256 == artifacts[0].sha256
    assert bench.service.get_model(bench.org, child.model_id).purified_from[0].sha256 == made.sha256
