"""`assay scan`: the exit code is the verdict; here and on a server the same output."""

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.domain import Verdict
from core.jobs.service import ScanFilter
from tests.support.checkpoints import reference_zip
from tests.support.children import fake_children, write_script
from tests.support.cli import Cli
from tests.support.http import Harness, LiveServer, sha256
from tests.support.processes import wait_until
from worker.children import ChildCommands


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Local scans with stand-in children."""
    monkeypatch.setattr("worker.local.real_children", fake_children)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for name in ("0/a.png", "1/b.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(name.encode())
    return folder


def act_as_worker(harness: Harness, model: bytes, act: Callable[[str], object]) -> threading.Thread:
    """In a thread: wait until a scan of `model` is queued, then do something with it."""

    def work() -> None:
        def queued() -> list[str]:
            page = harness.services.jobs.list("org_default", ScanFilter(model_sha256=sha256(model)))
            return [scan.id for scan in page.items if not scan.state.is_terminal]

        wait_until(queued, 20, "a queued scan")
        act(queued()[0])

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


@pytest.mark.parametrize(("verdict", "code"), [(Verdict.CLEAN, 0), (Verdict.BACKDOORED, 1), (Verdict.INCONCLUSIVE, 2)])
def test_the_verdict_is_the_exit_code(
    remote: Cli, live: LiveServer, tmp_path: Path, images: Path, verdict: Verdict, code: int
) -> None:
    model = tmp_path / "net.pth"
    model.write_bytes(f"cli {verdict}".encode())
    act_as_worker(live.harness, model.read_bytes(), lambda scan_id: live.harness.finish(scan_id, verdict))
    ran = remote("scan", model, "--reference", images)
    assert ran.code == code, ran
    assert verdict.value in ran.out
    assert "net.pth" in ran.out


def test_purified_weights_are_saved_in_the_container_of_the_upload(
    remote: Cli, live: LiveServer, tmp_path: Path, images: Path
) -> None:
    model, target = tmp_path / "net.pth", tmp_path / "pure.pth"
    model.write_bytes(b"cli purify")
    act_as_worker(
        live.harness, b"cli purify", lambda scan_id: live.harness.finish(scan_id, Verdict.BACKDOORED, b"cli pure")
    )
    ran = remote("scan", model, "--reference", images, "--out", target, "--json")
    assert ran.code == 1
    report = json.loads(ran.out)
    assert report["detection"]["verdict"] == "backdoored"
    assert target.read_bytes() == b"cli pure"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "net.pth", "pure.pth"]


def test_nothing_is_written_when_nothing_was_published(remote: Cli, live: LiveServer, tmp_path: Path) -> None:
    model, target = tmp_path / "net.pth", tmp_path / "pure.pth"
    model.write_bytes(b"cli clean")
    act_as_worker(live.harness, b"cli clean", lambda scan_id: live.harness.finish(scan_id, Verdict.CLEAN))
    ran = remote("scan", model, "--out", target)
    assert ran.code == 0
    assert not target.exists()
    assert "not written" in ran.err


@pytest.mark.parametrize(
    ("error", "code"), [("not_a_model", 3), ("unsupported_architecture", 4), ("unsafe_pickle", 4), ("worker_lost", 3)]
)
def test_failures_on_a_server(remote: Cli, live: LiveServer, tmp_path: Path, error: str, code: int) -> None:
    model = tmp_path / "net.pth"
    model.write_bytes(error.encode())

    def fail(scan_id: str) -> None:
        live.harness.services.jobs.fail(live.harness.claim(scan_id), error, "What happened.", "What to do.")

    act_as_worker(live.harness, error.encode(), fail)
    ran = remote("scan", model, "--json")
    assert ran.code == code
    assert json.loads(ran.out) == {"error": {"code": error, "detail": "What happened.", "hint": "What to do."}}
    assert "What to do." in ran.err


def test_a_scan_canceled_by_somebody_else(remote: Cli, live: LiveServer, tmp_path: Path) -> None:
    model = tmp_path / "net.pth"
    model.write_bytes(b"cli cancel")
    jobs = live.harness.services.jobs
    act_as_worker(live.harness, b"cli cancel", lambda scan_id: jobs.request_cancel("org_default", scan_id))
    assert remote("scan", model).code == 5


def test_interrupting_cancels_the_scan_on_the_server(remote: Cli, live: LiveServer, tmp_path: Path) -> None:
    model = tmp_path / "net.pth"
    model.write_bytes(b"cli interrupt")
    act_as_worker(live.harness, b"cli interrupt", lambda _: os.kill(os.getpid(), signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    ran = remote("scan", model)
    assert ran.code == 5
    assert signal.getsignal(signal.SIGINT) is before
    page = live.harness.services.jobs.list("org_default", ScanFilter(model_sha256=sha256(b"cli interrupt")))
    assert [scan.state for scan in page.items] == ["canceled"]


def test_interrupting_an_upload(remote: Cli, live: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from api import client

    model = tmp_path / "net.pth"
    model.write_bytes(b"cli upload" * 100_000)
    real = client._read

    def interrupted(*arguments: Any) -> Iterator[bytes]:
        blocks = real(*arguments)
        yield next(blocks)
        os.kill(os.getpid(), signal.SIGINT)
        yield from blocks

    monkeypatch.setattr(client, "_read", interrupted)
    assert remote("scan", model).code == 5
    assert not live.harness.services.store.exists(sha256(model.read_bytes()))


def test_here_and_on_a_server_the_reference_set_is_the_same(
    remote: Cli, live: LiveServer, tmp_path: Path, images: Path, fake: None
) -> None:
    model = write_script(tmp_path / "net.json", name="same")
    act_as_worker(
        live.harness, model.read_bytes(), lambda scan_id: live.harness.finish(scan_id, Verdict.BACKDOORED, b"p")
    )
    there = json.loads(remote("scan", model, "--reference", images, "--json").out)
    here = json.loads(remote("scan", model, "--reference", images, "--local", "--json").out)
    assert here.keys() == there.keys()
    assert here["reference_set"]["sha256"] == there["reference_set"]["sha256"]
    assert here["model"]["sha256"] == there["model"]["sha256"]
    assert here["config_digest"] == there["config_digest"]


@pytest.mark.parametrize("as_file", [False, True])
def test_names_and_prompts_of_a_clip(remote: Cli, live: LiveServer, tmp_path: Path, as_file: bool) -> None:
    model = tmp_path / "net.pth"
    model.write_bytes(b"cli names %d" % as_file)
    names = "a cat,a dog"
    if as_file:
        names = str(tmp_path / "names.txt")
        Path(names).write_text("a cat\na dog\n")
    act_as_worker(
        live.harness, model.read_bytes(), lambda scan_id: live.harness.finish(scan_id, Verdict.BACKDOORED, b"p")
    )
    ran = remote("scan", model, "--vocabulary", names, "--template", "a photo of {}, far", "--template", "{}")
    assert ran.code == 1, ran
    page = live.harness.services.jobs.list("org_default", ScanFilter(model_sha256=sha256(model.read_bytes())))
    (config,) = [scan.config for scan in page.items]
    assert (config["kind"], config["vocabulary"]) == ("auto", ["a cat", "a dog"])
    assert config["templates"] == ["a photo of {}, far", "{}"]


def test_a_local_scan(cli: Cli, tmp_path: Path, images: Path, fake: None) -> None:
    model = write_script(tmp_path / "net.json", stages={"inverting": 0.1})
    target = tmp_path / "pure.safetensors"
    ran = cli("scan", model, "--reference", images, "--out", target)
    assert ran.code == 1, ran
    assert "backdoored" in ran.out
    assert "inverting" in ran.err
    assert target.read_bytes().startswith(b"purified")


@pytest.mark.parametrize(("error", "code"), [("unsafe_pickle", 4), ("unsupported_container", 4), ("not_a_model", 3)])
def test_a_local_failure(cli: Cli, tmp_path: Path, fake: None, error: str, code: int) -> None:
    model = write_script(tmp_path / "net.json", fail={"code": error, "detail": "No."})
    ran = cli("scan", model)
    assert (ran.code, ran.out) == (code, "")
    assert error in ran.err


def test_a_crash_of_the_child_is_a_failure(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    dead = ChildCommands(parse=(sys.executable, "-c", "import os; os._exit(1)"), compute=("false",))
    monkeypatch.setattr("worker.local.real_children", lambda _: dead)
    assert cli("scan", write_script(tmp_path / "net.json")).code == 3


def test_interrupting_a_local_scan(cli: Cli, tmp_path: Path, fake: None) -> None:
    log = tmp_path / "children.log"
    model = write_script(tmp_path / "net.json", stages={"inverting": 60}, log=str(log))

    def interrupt() -> None:
        wait_until(log.exists, 20, "the computing child")
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    assert cli("scan", model).code == 5
    assert "stopped" in log.read_text()


def test_an_unforeseen_error_is_a_failure(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: object, **__: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("worker.local.scan_locally", explode)
    ran = cli("scan", write_script(tmp_path / "net.json"))
    assert ran.code == 3
    assert "by zero" in ran.err


def test_an_unreachable_server_is_a_failure(cli: Cli, tmp_path: Path) -> None:
    model = write_script(tmp_path / "net.json")
    ran = cli("scan", model, "--server", "http://127.0.0.1:1")
    assert (ran.code, "server_unreachable" in ran.err) == (3, True)
    assert cli("scan", model, "--server", "not an address").code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["MISSING"],
        ["MODEL", "--reference", "MISSING"],
        ["MODEL", "--preset", "best"],
        ["MODEL", "--seed", "-1"],
        ["MODEL", "--seed", "x"],
        ["MODEL", "--architecture", "a b"],
        ["MODEL", "--preprocess", "{}"],
        ["MODEL", "--vocabulary", "alone"],
        ["MODEL", "--vocabulary", "MODEL"],
        ["MODEL", "--template", "no place for the name"],
        ["MODEL", "--preprocess", "junk"],
        ["MODEL", "--out", "MISSING/x"],
        ["MODEL", "--nope"],
        ["MODEL", "EXTRA"],
    ],
    ids=str,
)
def test_wrong_usage(cli: Cli, tmp_path: Path, arguments: list[str]) -> None:
    model = write_script(tmp_path / "net.json")
    filled = [text.replace("MODEL", str(model)).replace("MISSING", str(tmp_path / "no")) for text in arguments]
    ran = cli("scan", *filled)
    assert (ran.code, ran.out) == (64, "")
    assert ran.err


def test_what_this_version_cannot_do_is_refused(cli: Cli, tmp_path: Path) -> None:
    model = write_script(tmp_path / "net.json")
    ran = cli("scan", model, "--kind", "classifier", "--vocabulary", "cat,dog")
    assert (ran.code, "invalid_vocabulary" in ran.err) == (3, True)
    ran = cli("scan", model, "--purify", "always")
    assert (ran.code, "reference_required" in ran.err) == (3, True)


def test_a_reference_set_of_the_server(remote: Cli, live: LiveServer, tmp_path: Path) -> None:
    archive = reference_zip(tmp_path / "r.zip", 20).read_bytes()
    with httpx2.Client(base_url=live.address, headers=live.harness.bearer, timeout=60) as http:
        http.put(f"/v1/blobs/{sha256(archive)}", content=archive)
        made = http.post("/v1/reference-sets", json={"name": "cli", "blob": sha256(archive)}).json()
    model = tmp_path / "net.pth"
    model.write_bytes(b"cli set")
    act_as_worker(live.harness, b"cli set", lambda scan_id: live.harness.finish(scan_id, Verdict.CLEAN))
    ran = remote("scan", model, "--reference", made["id"], "--json")
    assert ran.code == 0, ran
    assert json.loads(ran.out)["reference_set"]["sha256"] == sha256(archive)
    ran = remote("scan", model, "--reference", "refset_" + "0" * 26)
    assert (ran.code, "reference_set_not_found" in ran.err) == (3, True)
    ran = remote("scan", model, "--reference", made["id"], "--local")
    assert (ran.code, "server_required" in ran.err) == (3, True)


def test_an_empty_reference_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = cli("scan", write_script(tmp_path / "net.json"), "--reference", tmp_path / "empty")
    assert (ran.code, "reference_empty" in ran.err) == (3, True)
