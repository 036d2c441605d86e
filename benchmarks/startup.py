"""How fast and how small the service starts.

    python benchmarks/startup.py

Prints, over several fresh processes: seconds until `api.app:create_app()` has been imported and has returned, and the
resident memory then; seconds from exec of `assay serve` until /healthz answers 200.
"""

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

RUNS = 5
CREATE_APP = """
import psutil, time
start = time.perf_counter()
from api.app import create_app
create_app()
print(time.perf_counter() - start, psutil.Process().memory_info().rss / 1e6)
"""


def create_app_once() -> tuple[float, float]:
    """(seconds, megabytes) of one fresh process."""
    with tempfile.TemporaryDirectory() as data_dir:
        environment = {**os.environ, "ASSAY_DATA_DIR": data_dir}
        done = subprocess.run(
            [sys.executable, "-c", CREATE_APP], capture_output=True, text=True, check=True, env=environment
        )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def serve_once() -> float:
    """Seconds until a fresh `assay serve` answers /healthz."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as data_dir:
        environment = {**os.environ, "ASSAY_DATA_DIR": data_dir}
        start = time.perf_counter()
        server = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "serve", "--port", str(port)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            while True:
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
                        if answer.status == 200:
                            return time.perf_counter() - start
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.01)
                if time.perf_counter() - start > 30:
                    raise TimeoutError("the service did not answer within 30 s")
        finally:
            server.terminate()
            server.wait(timeout=30)


def main() -> None:
    apps = [create_app_once() for _ in range(RUNS)]
    serves = [serve_once() for _ in range(RUNS)]
    seconds, megabytes = statistics.median(s for s, _ in apps), max(m for _, m in apps)
    print(f"create_app      median {seconds:.2f} s, {megabytes:.0f} MB at most")
    print(f"serve->healthz  median {statistics.median(serves):.2f} s, {max(serves):.2f} s at most")


if __name__ == "__main__":
    main()
