"""The real client of the Hub against a local one: what it asks, where it goes, and what its failures are called."""

import os
import threading
import time

import pytest

from core.errors import AssayError
from core.hub.client import NetworkHub
from core.hub.errors import HubError, HubRateLimitedError, HubStoppedError
from core.hub.reference import HubRef
from core.hub.source import HubFile
from tests.support.http import sha256
from tests.support.hub import Fault, LocalHub, git_oid
from tests.unit.hub.conftest import MemorySink, where

WEIGHTS = os.urandom(3 * 2**20)
CONFIG = b'{"a": 1}'
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "sub/x.txt": b"x"}
REF = HubRef("org/name")
CANARY = "hf_canarytoken0123456789"


def go_on() -> bool:
    return False


def code_of(call: object) -> HubError:
    with pytest.raises(HubError) as caught:
        call()  # type: ignore[operator]
    error = caught.value
    for text in (str(error), repr(error), error.detail, error.hint):
        assert "canary" not in text
        assert "http" not in text
    return error


def test_a_revision_becomes_a_commit_and_a_listing(hub: LocalHub, client: NetworkHub) -> None:
    first = hub.publish("org/name", FILES)
    second = hub.publish("org/name", FILES, "refs/pr/1")
    assert client.commit(REF, None) == first
    assert client.commit(HubRef("org/name", "refs/pr/1"), None) == second
    assert client.commit(HubRef("org/name", first), None) == first
    hub.page_size = 1
    assert sorted(client.files("org/name", first, None), key=lambda file: file.path) == [
        HubFile("config.json", len(CONFIG), None, git_oid(CONFIG)),
        HubFile("model.safetensors", len(WEIGHTS), sha256(WEIGHTS), None),
        HubFile("sub/x.txt", 1, None, git_oid(b"x")),
    ]


def test_files_arrive(hub: LocalHub, client: NetworkHub, sink: MemorySink) -> None:
    commit = hub.publish("org/name", FILES)
    assert client.read(where(commit, "config.json", CONFIG), None) == CONFIG
    client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on)
    assert bytes(sink.data) == WEIGHTS


def test_an_empty_file_arrives(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", {"a.json": b""})
    assert client.read(where(commit, "a.json", b""), None) == b""


def test_a_transfer_goes_on_where_an_earlier_one_ended(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", FILES)
    sink = MemorySink(WEIGHTS[:1_000_000])
    client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on)
    assert bytes(sink.data) == WEIGHTS
    assert {item.range for item in hub.gets("model.safetensors")} == {"bytes=1000000-"}


def test_a_transfer_that_breaks_off_is_gone_on_with(hub: LocalHub, client: NetworkHub, sink: MemorySink) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(cut_after=2**21))
    client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on)
    assert bytes(sink.data) == WEIGHTS
    ranges = [item.range for item in hub.gets("model.safetensors") if item.path.startswith("/storage")]
    assert ranges[0] is None
    assert ranges[1] is not None


def test_a_server_without_ranges_starts_over(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(no_ranges=True))
    sink = MemorySink(b"x" * 1000)
    client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on)
    assert bytes(sink.data) == WEIGHTS


def test_a_transfer_that_gets_nowhere_ends(
    hub: LocalHub, client: NetworkHub, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No ranges and never to the end: the client's own retries would go on for ever."""
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(no_ranges=True, cut_after=2**21, times=50))
    error = code_of(lambda: client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on))
    assert (error.code, type(error).retryable) == ("hub_file_truncated", True)
    assert len(hub.gets("model.safetensors")) < 20


def test_a_file_shorter_than_listed(hub: LocalHub, client: NetworkHub, sink: MemorySink) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(short_by=10, times=50))
    error = code_of(lambda: client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on))
    assert error.code == "hub_file_truncated"


def test_a_file_longer_than_listed(hub: LocalHub, client: NetworkHub, sink: MemorySink) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(surplus=b"!" * 5_000_000, times=50))
    error = code_of(lambda: client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on))
    assert (error.code, type(error).retryable) == ("hub_digest_mismatch", False)
    assert sink.size <= len(WEIGHTS)


@pytest.mark.parametrize(
    ("revision", "token", "gated", "sent", "code", "status"),
    [
        ("main", None, False, None, None, 0),
        ("v9", None, False, None, "hub_revision_not_found", 404),
        ("main", CANARY, False, CANARY, None, 0),
        ("main", CANARY, False, "hf_canary_wrong", "hub_unauthorized", 403),
        ("main", CANARY, False, None, "hub_repository_not_found", 404),
        ("main", CANARY, True, None, "hub_gated", 403),
        ("main", CANARY, True, "hf_canary_other", "hub_gated", 403),
    ],
)
def test_who_may_see_what(
    hub: LocalHub,
    client: NetworkHub,
    revision: str,
    token: str | None,
    gated: bool,
    sent: str | None,
    code: str | None,
    status: int,
) -> None:
    commit = hub.publish("org/name", FILES)
    hub.repos["org/name"].token, hub.repos["org/name"].gated = token, gated
    ref = HubRef("org/name", revision)
    if code is None:
        assert client.commit(ref, sent) == commit
        return
    error = code_of(lambda: client.commit(ref, sent))
    assert (error.code, error.http_status, type(error).retryable) == (code, status, False)


def test_what_is_not_there(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", FILES)
    assert code_of(lambda: client.commit(HubRef("org/other"), None)).code == "hub_repository_not_found"
    assert code_of(lambda: client.files("org/name", "0" * 40, None)).code == "hub_revision_not_found"
    assert code_of(lambda: client.read(where(commit, "a.json", b"x"), None)).code == "hub_file_not_found"


@pytest.mark.parametrize(
    ("what", "fault", "code", "retryable"),
    [
        ("revision", Fault(status=429), "hub_rate_limited", True),
        ("revision", Fault(status=500), "hub_unavailable", True),
        ("revision", Fault(status=503), "hub_unavailable", True),
        ("revision", Fault(status=404), "hub_repository_not_found", False),
        ("revision", Fault(status=403), "hub_unauthorized", False),
        ("revision", Fault(status=418), "hub_invalid_answer", False),
        ("revision", Fault(body=b"<html>canary"), "hub_invalid_answer", False),
        ("revision", Fault(body=b'{"id": "org/name", "sha": "canary"}'), "hub_invalid_answer", False),
        ("revision", Fault(body=b"{}"), "hub_invalid_answer", False),
        ("revision", Fault(body=b"[" * 10_000), "hub_invalid_answer", False),
        ("tree", Fault(body=b'[{"type": "file", "path": "x"}]'), "hub_invalid_answer", False),
        ("tree", Fault(body=b'[{"type": "file", "path": "x", "size": "9", "oid": ""}]'), "hub_invalid_answer", False),
        ("tree", Fault(body=b'{"error": "canary"}'), "hub_invalid_answer", False),
        ("tree", Fault(status=429, headers={"Retry-After": "60"}), "hub_rate_limited", True),
        ("config.json", Fault(encoding="gzip"), "hub_invalid_answer", False),
        ("config.json", Fault(status=500), "hub_unavailable", True),
    ],
)
def test_answers_of_a_hub_in_trouble(
    hub: LocalHub, client: NetworkHub, what: str, fault: Fault, code: str, retryable: bool
) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail(what, fault)

    def ask() -> None:
        assert client.commit(REF, None) == commit
        client.files("org/name", commit, None)
        client.read(where(commit, "config.json", CONFIG), None)

    started = time.monotonic()
    error = code_of(ask)
    assert (error.code, type(error).retryable) == (code, retryable)
    assert time.monotonic() - started < 5


def test_an_answer_without_end_is_not_taken_in(
    hub: LocalHub, client: NetworkHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = hub.publish("org/name", FILES)
    monkeypatch.setattr("core.hub.client.MAX_ANSWER_BYTES", 100_000)
    hub.fail("tree", Fault(body=b"[" + b" " * 1_000_000))
    error = code_of(lambda: client.files("org/name", commit, None))
    assert (error.code, "100000" in error.detail) == ("hub_invalid_answer", True)
    assert len(client.files("org/name", commit, None)) == 3


def test_a_complaint_without_end_is_not_taken_in(hub: LocalHub, client: NetworkHub, sink: MemorySink) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(status=418, body=b" " * 5_000_000))
    error = code_of(lambda: client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on))
    assert (error.code, "1048576" in error.detail) == ("hub_invalid_answer", True)


def test_a_hub_that_asks_to_wait_is_waited_for_a_little(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("tree", Fault(status=429, headers={"Retry-After": "1"}), Fault(status=503))
    assert len(client.files("org/name", commit, None)) == 3


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "600"}, 600),
        ({"RateLimit": '"api";r=0;t=300', "RateLimit-Policy": '"fixed window";"api";q=500;w=300'}, 300),
        ({"RateLimit": '"resolvers";r=0;t=45', "Retry-After": "600"}, 45),
    ],
)
def test_how_long_to_wait_is_passed_on(
    hub: LocalHub, client: NetworkHub, sink: MemorySink, headers: dict[str, str], wait_s: float
) -> None:
    commit = hub.publish("org/name", FILES)
    started = time.monotonic()
    for what in ("model.safetensors", "tree", "revision"):
        hub.fail(what, Fault(status=429, headers=headers))
    for ask in (
        lambda: client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on),
        lambda: client.files("org/name", commit, None),
        lambda: client.commit(REF, None),
    ):
        error = code_of(ask)
        assert isinstance(error, HubRateLimitedError)
        assert error.retry_after_s == wait_s
    assert time.monotonic() - started < 5


def test_a_short_wait_is_passed_on_too(hub: LocalHub, client: NetworkHub) -> None:
    hub.publish("org/name", FILES)
    hub.fail("revision", Fault(status=429, headers={"Retry-After": "2"}))
    error = code_of(lambda: client.commit(REF, None))
    assert isinstance(error, HubRateLimitedError)
    assert error.retry_after_s == 2


def test_nobody_there(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    gone = NetworkHub("http://127.0.0.1:9", ())
    for ask in (lambda: gone.commit(REF, None), lambda: gone.files("org/name", "0" * 40, None)):
        error = code_of(ask)
        assert (error.code, error.http_status, type(error).retryable) == ("hub_unavailable", 503, True)


def test_a_dead_hub_does_not_break_transfers_from_others(
    hub: LocalHub, client: NetworkHub, sink: MemorySink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library has one client per process, and closes it when a connection fails."""
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(block_pause_s=0.08))
    thread = threading.Thread(
        target=client.fetch, args=(where(commit, "model.safetensors", WEIGHTS), None, sink, go_on)
    )
    thread.start()
    while not hub.gets("model.safetensors"):
        time.sleep(0.01)
    monkeypatch.setattr("core.hub.client.ASK_PATIENCE_S", 0.5)
    gone = NetworkHub("http://127.0.0.1:9", ())
    code_of(lambda: gone.files("org/name", commit, None))
    assert thread.is_alive()
    thread.join(30)
    assert bytes(sink.data) == WEIGHTS
    assert len([item for item in hub.asked if item.path.startswith("/storage")]) == 1


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/storage/org/name/{commit}/model.safetensors",
        "http://localhost:9/x",
        "http://169.254.169.254/latest/meta-data",
        "https://example.org/model.safetensors",
        "http://localhost.example.org:{port}/x",
        "http://[::1]:{port}/x",
    ],
)
def test_redirects_lead_to_known_hosts_only(hub: LocalHub, client: NetworkHub, sink: MemorySink, target: str) -> None:
    commit = hub.publish("org/name", FILES)
    port = hub.address.rpartition(":")[2]
    hub.fail("model.safetensors", Fault(redirect=target.format(port=port, commit=commit)))
    before = len(hub.asked)
    error = code_of(lambda: client.fetch(where(commit, "model.safetensors", WEIGHTS), CANARY, sink, go_on))
    assert (error.code, type(error).retryable) == ("hub_redirect_refused", False)
    assert sink.size == 0
    assert len(hub.asked) == before + 1


def test_pages_of_a_listing_stay_at_the_hub(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("tree", Fault(body=b"[]", headers={"Link": '<http://127.0.0.2:9/next>; rel="next"'}))
    assert code_of(lambda: client.files("org/name", commit, CANARY)).code == "hub_redirect_refused"


def test_the_token_stays_at_the_hub(hub: LocalHub, client: NetworkHub, sink: MemorySink) -> None:
    commit = hub.publish("org/name", FILES)
    hub.repos["org/name"].token = CANARY
    client.files("org/name", commit, CANARY)
    client.fetch(where(commit, "model.safetensors", WEIGHTS), CANARY, sink, go_on)
    for item in hub.asked:
        at_storage = item.host == hub.storage
        assert item.authorization == (None if at_storage else f"Bearer {CANARY}")
    assert any(item.host == hub.storage for item in hub.asked)


def test_the_machines_own_token_is_never_used(
    hub: LocalHub, client: NetworkHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", CANARY)
    commit = hub.publish("org/name", FILES)
    client.commit(REF, None)
    client.files("org/name", commit, None)
    client.read(where(commit, "config.json", CONFIG), None)
    assert {item.authorization for item in hub.asked} == {None}


def test_a_slow_transfer_stops_within_a_moment(hub: LocalHub, client: NetworkHub, sink: MemorySink) -> None:
    commit = hub.publish("org/name", FILES)
    hub.fail("model.safetensors", Fault(block_pause_s=0.2))
    stop = threading.Event()
    threading.Timer(0.5, stop.set).start()
    started = time.monotonic()
    with pytest.raises(HubStoppedError):
        client.fetch(where(commit, "model.safetensors", WEIGHTS), None, sink, stop.is_set)
    assert time.monotonic() - started < 3


def test_a_full_disk_is_not_the_hubs_fault(hub: LocalHub, client: NetworkHub) -> None:
    commit = hub.publish("org/name", FILES)

    class Full(MemorySink):
        def write(self, data: bytes) -> None:
            raise AssayError("storage_full", "")

    with pytest.raises(AssayError, match="storage_full"):
        client.fetch(where(commit, "model.safetensors", WEIGHTS), None, Full(), go_on)


def test_nothing_is_logged_about_addresses_and_tokens(
    hub: LocalHub, client: NetworkHub, sink: MemorySink, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture
) -> None:
    commit = hub.publish("org/name", FILES)
    hub.repos["org/name"].token = CANARY
    hub.fail("model.safetensors", Fault(cut_after=2**20))
    client.fetch(where(commit, "model.safetensors", WEIGHTS), CANARY, sink, go_on)
    shown = capfd.readouterr()
    assert "canary" not in caplog.text + shown.out + shown.err
