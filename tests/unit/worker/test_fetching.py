"""Scans whose files come from a Hub: a real database, real children, the real client, and a Hub with moods."""

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.config import ScanConfig
from core.domain import JobState
from core.errors import AssayError, UnavailableError
from core.hub.reference import HubRef
from core.jobs.service import SubmitScan
from core.registry.orm import ScanJob
from tests.support.children import fake_children
from tests.support.hub import Fault, LocalHub, settings_for
from tests.support.jobs import ORG, Desk, desk
from tests.support.processes import wait_until
from worker.hub import hub_tokens
from worker.main import runner_options
from worker.materials import Materials
from worker.runner import Runner

CANARY = "hf_canarytoken0123456789"
SIZE = 4 * 2**20
SLOW = Fault(block_pause_s=0.2)


@pytest.fixture
def office(hub: LocalHub, tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path, secret_key="a secret key of the tests, 32 characters", **settings_for(hub)) as made:
        yield made


def make_runner(office: Desk) -> Runner:
    options = replace(runner_options(office.settings), cancel_poll_s=0.05, kill_grace_s=0.5)
    return Runner(office.service, office.store, options, office.desk, commands=fake_children())


def publish(hub: LocalHub, office: Desk, **script: object) -> tuple[bytes, bytes]:
    """Two files of weights; returns the first one and the configuration."""
    weights = os.urandom(SIZE)
    index = b'{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}'
    config = office.script(**script)
    hub.publish(
        "org/name",
        {
            "config.json": config,
            "model.safetensors.index.json": index,
            FIRST: weights,
            "model-00002-of-00002.safetensors": b"second" * 1000,
        },
    )
    return weights, config


FIRST = "model-00001-of-00002.safetensors"


def again(office: Desk, scan: str) -> JobState | None:
    """The next attempt, without the back-off."""
    with office.db.begin() as session:
        job = session.get_one(ScanJob, scan)
        job.not_before = job.created_at
    return make_runner(office).run(scan)


def notes(office: Desk, scan: str) -> list[str]:
    return [event.payload.get("message", "") for event in office.service.events(ORG, scan)]


def from_storage(hub: LocalHub, path: str = FIRST) -> list[str | None]:
    """The ranges asked for."""
    return [item.range for item in hub.gets(path) if item.path.startswith("/storage")]


def test_files_are_fetched_verified_and_scanned(hub: LocalHub, office: Desk) -> None:
    weights, _ = publish(hub, office)
    scan = office.submit_hub("org/name")
    assert hub.gets(FIRST) == []
    assert make_runner(office).run(scan) is JobState.SUCCEEDED
    digest = hashlib.sha256(weights).hexdigest()
    assert office.store.open_verified(digest).read() == weights
    assert office.service.has_blob(ORG, digest)
    assert list(office.store.partial_names(-1)) == []
    assert office.service.check_store().missing == []
    said = notes(office, scan)
    assert any("Fetching 2 files (4.2 MB) of org/name" in note for note in said)
    assert "Fetched 4.2 MB." in said


def test_neither_children_nor_rows_see_the_token(
    hub: LocalHub, office: Desk, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "environment"
    publish(hub, office, environment=str(seen))
    hub.repos["org/name"].token = CANARY
    hub_tokens(office.settings, office.db).set(ORG, hub.address, SecretStr(CANARY))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "ASSAY_HUB_TOKEN", "ASSAY_SECRET_KEY"):
        monkeypatch.setenv(name, "canary of the worker's environment")
    scan = office.submit_hub("org/name")
    assert make_runner(office).run(scan) is JobState.SUCCEEDED
    text = seen.read_text()
    assert [line.partition(" ")[0] for line in text.splitlines()] == ["parse", "compute"]
    assert "model_files" in text
    for shown in (text, caplog.text, repr(office.service.events(ORG, scan)), repr(office.view(scan))):
        assert "canary" not in shown


def test_an_interrupted_transfer_is_gone_on_with_by_the_next_attempt(hub: LocalHub, office: Desk) -> None:
    weights, _ = publish(hub, office)
    hub.fail(FIRST, Fault(cut_after=3 * 2**20), Fault(status=500))
    scan = office.submit_hub("org/name")
    assert make_runner(office).run(scan) is JobState.QUEUED
    assert office.view(scan).error is None
    assert not office.service.has_blob(ORG, hashlib.sha256(weights).hexdigest())
    before = len(from_storage(hub))
    assert again(office, scan) is JobState.SUCCEEDED
    [went_on] = from_storage(hub)[before:]
    assert went_on is not None
    assert int(went_on.removeprefix("bytes=").removesuffix("-")) >= 2**20


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault(status=503, times=9), "hub_unavailable"),
        (Fault(short_by=5, times=9), "hub_file_truncated"),
        (Fault(status=429, headers={"Retry-After": "500"}, times=9), "hub_rate_limited"),
    ],
)
def test_what_may_pass_is_tried_three_times(hub: LocalHub, office: Desk, fault: Fault, code: str) -> None:
    publish(hub, office)
    hub.fail(FIRST, fault)
    scan = office.submit_hub("org/name")
    assert make_runner(office).run(scan) is JobState.QUEUED
    if code == "hub_rate_limited":
        with office.db.read() as session:
            job = session.get_one(ScanJob, scan)
            assert (job.not_before - office.db.now(session)).total_seconds() > 400
    assert again(office, scan) is JobState.QUEUED
    assert again(office, scan) is JobState.FAILED
    error = office.view(scan).error
    assert error is not None
    assert error.code == code


def test_other_bytes_than_listed_are_never_kept(hub: LocalHub, office: Desk) -> None:
    weights, _ = publish(hub, office)
    hub.fail(FIRST, Fault(wrong=True))
    scan = office.submit_hub("org/name")
    assert make_runner(office).run(scan) is JobState.FAILED
    error = office.view(scan).error
    assert error is not None
    assert error.code == "hub_digest_mismatch"
    assert FIRST in error.detail
    wrong = hashlib.sha256(bytes(255 - byte for byte in weights)).hexdigest()
    for digest in (wrong, hashlib.sha256(weights).hexdigest()):
        assert not office.store.exists(digest)
    assert list(office.store.partial_names(-1)) == []
    assert office.logged("started", scan) == []


def test_what_was_damaged_before_the_interruption_is_found_after_it(hub: LocalHub, office: Desk) -> None:
    """The part that was kept counts as little as any other byte until the digest is right."""
    publish(hub, office)
    hub.fail(FIRST, Fault(wrong=True, cut_after=3 * 2**20), Fault(status=500))
    scan = office.submit_hub("org/name")
    assert make_runner(office).run(scan) is JobState.QUEUED
    assert again(office, scan) is JobState.FAILED
    error = office.view(scan).error
    assert error is not None
    assert error.code == "hub_digest_mismatch"
    forced = office.service.submit(ORG, replace(_request(office), force=True)).scan.id
    assert make_runner(office).run(forced) is JobState.SUCCEEDED


def _request(office: Desk) -> SubmitScan:
    contents = Materials(office.service, office.store, office.desk).resolve(ORG, HubRef("org/name"))
    return SubmitScan(contents.manifest.sha256, "name", None, ScanConfig(), False, contents)


def test_a_cancel_is_honoured_within_seconds(hub: LocalHub, office: Desk) -> None:
    publish(hub, office)
    hub.fail(FIRST, replace(SLOW))
    scan = office.submit_hub("org/name")
    answer: list[object] = []
    thread = threading.Thread(target=lambda: answer.append(make_runner(office).run(scan)))
    thread.start()
    wait_until(lambda: from_storage(hub) != [], 20, "the transfer")
    office.wait_for_stage(scan, "fetching")
    started = time.monotonic()
    office.service.request_cancel(ORG, scan)
    thread.join(20)
    assert answer == [JobState.CANCELED]
    assert time.monotonic() - started < 5
    assert office.left_overs() == []


def test_a_stuck_transfer_does_not_hold_up_a_cancel(hub: LocalHub, office: Desk) -> None:
    """The Hub says nothing at all; nobody waits for the network's own time limits."""
    publish(hub, office)
    hub.fail(FIRST, Fault(block_pause_s=30))
    scan = office.submit_hub("org/name")
    answer: list[object] = []
    thread = threading.Thread(target=lambda: answer.append(make_runner(office).run(scan)))
    thread.start()
    wait_until(lambda: from_storage(hub) != [], 20, "the transfer")
    started = time.monotonic()
    office.service.request_cancel(ORG, scan)
    thread.join(20)
    assert answer == [JobState.CANCELED]
    assert time.monotonic() - started < 6


def test_draining_puts_the_scan_back_and_keeps_what_arrived(hub: LocalHub, office: Desk) -> None:
    publish(hub, office)
    hub.fail(FIRST, Fault(block_pause_s=0.05))
    scan = office.submit_hub("org/name")
    runner = make_runner(office)
    answer: list[object] = []
    thread = threading.Thread(target=lambda: answer.append(runner.run(scan)))
    thread.start()
    wait_until(lambda: any(office.store.partial_size(n) > 2**20 for n in office.store.partial_names(-1)), 30, "bytes")
    runner.drain()
    thread.join(20)
    assert answer == [JobState.QUEUED]
    before = len(from_storage(hub))
    assert make_runner(office).run(scan) is JobState.SUCCEEDED
    assert from_storage(hub)[before] is not None


def test_a_repository_that_is_gone_meanwhile(hub: LocalHub, office: Desk) -> None:
    publish(hub, office)
    scan = office.submit_hub("org/name")
    hub.repos.clear()
    assert make_runner(office).run(scan) is JobState.FAILED
    error = office.view(scan).error
    assert error is not None
    assert error.code == "hub_repository_not_found"


def test_a_file_that_vanished_from_the_store_is_fetched_again(hub: LocalHub, office: Desk) -> None:
    weights, _ = publish(hub, office)
    scan = office.submit_hub("org/name")
    assert make_runner(office).run(scan) is JobState.SUCCEEDED
    office.store.delete(hashlib.sha256(weights).hexdigest())
    forced = office.service.submit(ORG, replace(_request(office), force=True)).scan.id
    assert make_runner(office).run(forced) is JobState.SUCCEEDED
    assert len(from_storage(hub)) == 2


def test_two_scans_after_the_same_bytes_fetch_them_once(hub: LocalHub, office: Desk) -> None:
    publish(hub, office)
    hub.fail(FIRST, Fault(block_pause_s=0.03))
    first = office.submit_hub("org/name")
    second = office.service.submit(ORG, replace(_request(office), force=True)).scan.id
    answers: list[object] = []

    def work(scan: str) -> None:
        answers.append(make_runner(office).run(scan))

    threads = [threading.Thread(target=work, args=(scan,)) for scan in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [JobState.SUCCEEDED] * 2
    assert len(from_storage(hub)) == 1


def test_a_slow_hub_does_not_take_all_threads(office: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.materials._asking", threading.BoundedSemaphore(1))
    with pytest.raises(AssayError, match="hub_repository_not_found"):
        office.submit_hub("org/name")
    monkeypatch.setattr("worker.materials._asking", threading.Semaphore(0))
    with pytest.raises(UnavailableError, match="hub_busy"):
        office.submit_hub("org/name")
