"""Several worker processes at one database: each scan is claimed, and finished, exactly once."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

from core.domain import JobState
from tests.support.registry import Bench

ROOT = Path(__file__).parents[3]
SCANS, PROCESSES = 12, 3

WORKER = """
import sys
from pathlib import Path
from core.registry.session import Database
from tests.support.registry import Bench, make_report

url, folder, *ids = sys.argv[1:]
bench = Bench.at(Database(url), Path(folder))
print("ready", flush=True)
sys.stdin.readline()
for scan_id in ids:
    claim = bench.service.claim(scan_id, "process")
    if claim is not None and bench.service.succeed(claim, make_report(claim), []):
        print(scan_id, flush=True)
"""


def test_each_scan_is_done_once(bench: Bench) -> None:
    ids = [bench.submit(seed=seed).scan.id for seed in range(SCANS)]
    url = bench.db.url.render_as_string(hide_password=False)
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(bench.settings.data_dir), *ids],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        output = "".join(worker.communicate(timeout=60)[0] for worker in workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    assert Counter(output.split()) == dict.fromkeys(ids, 1)
    views = [bench.service.get(bench.org, scan_id) for scan_id in ids]
    assert {(view.state, view.attempt) for view in views} == {(JobState.SUCCEEDED, 1)}
    assert bench.count("scan_result") == SCANS
