"""`assay demo`: the main job from end to end, over real HTTP, on the example models.

A server with an embedded worker is started on a free port with an empty data folder. Each example is uploaded, scanned
and, when called backdoored, purified. What the purified weights are worth is then measured from the *downloaded* files
with the true trigger, which the service never sees (examples/measure*.py, a process of its own: nothing here imports
torch).
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.client import Client
from api.commands.common import ExitCode, err, out
from api.commands.examples import ROOT, Examples
from core.domain import JobState, Verdict
from core.errors import AssayError, UnavailableError

SERVER_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Scanned:
    """One example after its scan."""

    name: str
    scan: dict[str, Any]
    purified: Path | None
    scan_s: float


def run_demo(examples: Examples, build_dir: Path) -> int:
    """Scan the examples, print a table, write `build_dir`/summary.json.

    Returns:
        0 if every verdict is right; 3 if one is not, or a scan failed.
    """
    # Ended by a signal, the server must not stay behind: leave through the context managers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(ExitCode.CANCELED))
    truths = examples.truths
    build_dir.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="assay-demo-") as scratch, _server(Path(scratch)) as address:
        out().print(f"Serving on {address} (documentation at {address}/docs)")
        reference = examples.reference(Path(scratch))
        with Client(address) as client, _progress(err()) as progress:
            scanned = [_scan(examples, client, progress, name, reference, build_dir) for name in truths]
    measured = _measure(examples, scanned)
    rows = [_row(item, truths[item.name], measured[item.name]) for item in scanned]
    summary = {"models": rows, "wall_s": round(time.monotonic() - started, 1)}
    (build_dir / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    out().print(_table(rows, scanned))
    out().print(f"{summary['wall_s']} s; written to {build_dir / 'summary.json'}")
    wrong = [row["name"] for row in rows if row["verdict"] != row["truth"]]
    if wrong:
        err().print(f"Wrong verdict: {', '.join(wrong)}", style="red")
    return ExitCode.FAILED if wrong else 0


@contextlib.contextmanager
def _server(data_dir: Path) -> Iterator[str]:
    """A server of our own on a free port, gone afterwards whatever happens; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log_path = data_dir / "server.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-m", "api.cli", "serve", "--host", "127.0.0.1", "--port", str(port)],
            cwd=ROOT,
            env=_environment(data_dir),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_until_up(address, process, log_path)
        yield address
    finally:
        process.terminate()
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _environment(data_dir: Path) -> dict[str, str]:
    """The caller's environment without its Assay settings: the demo shows the embedded default."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("ASSAY_")}
    return {**kept, "ASSAY_DATA_DIR": str(data_dir)}


def _wait_until_up(address: str, process: subprocess.Popen[bytes], log_path: Path) -> None:
    deadline = time.monotonic() + SERVER_START_S
    with Client(address) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            with contextlib.suppress(UnavailableError):
                client.healthy()
                return
            time.sleep(0.05)
    raise UnavailableError("demo_server_failed", f"The server did not start:\n{log_path.read_text()[-2000:]}")


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} % {task.fields[stage]:<11}"),
        TimeElapsedColumn(),
        console=console,
    )


def _scan(
    examples: Examples, client: Client, progress: Progress, name: str, reference: Path, build_dir: Path
) -> Scanned:
    task = progress.add_task(name, total=1.0, stage="uploading")

    def show(scan: dict[str, Any]) -> None:
        progress.update(task, completed=scan["progress"], stage=scan["stage"] or scan["state"])

    started = time.monotonic()
    submitted = client.submit(examples.send(client, name), client.upload(reference), examples.config)
    scan = client.wait(submitted["id"], show)
    if scan["state"] != JobState.SUCCEEDED:
        error = scan["error"] or {"code": scan["state"], "detail": "The scan did not finish."}
        raise AssayError(error["code"], f"{name}: {error['detail']}")
    scan_s = time.monotonic() - started
    progress.update(task, completed=1.0, stage=scan["verdict"])
    purified = None
    for artifact in client.report(scan["id"])["artifacts"]:
        if artifact["role"] == examples.role:
            purified = examples.keep(client, artifact["sha256"], name, build_dir)
    return Scanned(name, scan, purified, scan_s)


def _measure(examples: Examples, scanned: list[Scanned]) -> dict[str, dict[str, float]]:
    """ACC, ASR and RA of each example before and after, under the true triggers, in a process that has torch."""
    job = {item.name: str(item.purified) if item.purified else None for item in scanned}
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", examples.measured_by, json.dumps(job)],
        cwd=ROOT,
        env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise AssayError("demo_measure_failed", f"Measuring failed:\n{done.stderr[-2000:]}")
    measured: dict[str, dict[str, float]] = json.loads(done.stdout)
    return measured


def _row(item: Scanned, truth: str, measured: dict[str, float]) -> dict[str, Any]:
    return {
        "name": item.name,
        "truth": truth,
        "verdict": item.scan["verdict"],
        **{key: round(value, 4) for key, value in measured.items()},
        "scan_s": round(item.scan_s, 1),
    }


def _table(rows: list[dict[str, Any]], scanned: list[Scanned]) -> Table:
    table = Table(title="True triggers on test images, from the downloaded weights", box=None, pad_edge=False)
    for heading in ("model", "truth", "verdict"):
        table.add_column(heading, no_wrap=True)
    for heading in ("score", "ACC", "ASR", "ACC\nafter", "ASR\nafter", "RA\nafter", "scan"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row, item in zip(rows, scanned, strict=True):
        right = row["verdict"] == row["truth"]
        colour = "green" if right else "red"
        untouched = row["verdict"] == Verdict.CLEAN
        after = ["-"] * 3 if untouched else [f"{row[k]:.1%}" for k in ("acc_after", "asr_after", "ra_after")]
        table.add_row(
            row["name"],
            row["truth"],
            f"[{colour}]{row['verdict']}[/]",
            f"{item.scan['score']:.2f}",
            f"{row['acc_before']:.1%}",
            f"{row['asr_before']:.1%}",
            *after,
            f"{row['scan_s']:.0f} s",
        )
    return table
