"""How fast a large upload is, against `cp` + `sync` + `sha256sum` of the same file on the same disk.

    python benchmarks/upload.py [--gib 1] [--runs 3] [--dir FOLDER]

A real server in a process of its own; the client sends the file over the loopback interface. Both sides end with the
bytes durable on the disk and their digest known. Prints the median time of each, the ratio, and the growth of the
server's memory. The data folder and the copy are on one disk (FOLDER, by default build/).
"""

import argparse
import hashlib
import http.client
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
BLOCK = 1024 * 1024


def make_file(path: Path, size: int) -> str:
    """Random bytes; returns their SHA-256."""
    digest = hashlib.sha256()
    with path.open("wb") as file:
        for _ in range(size // BLOCK):
            block = os.urandom(BLOCK)
            digest.update(block)
            file.write(block)
        os.fsync(file.fileno())
    return digest.hexdigest()


def baseline_s(source: Path, copy: Path) -> float:
    """Seconds of `cp`, `sync` of the copy and `sha256sum`."""
    began = time.perf_counter()
    subprocess.run(["cp", source, copy], check=True)
    subprocess.run(["sync", copy], check=True)
    subprocess.run(["sha256sum", copy], check=True, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    copy.unlink()
    return seconds


def upload_s(port: int, source: Path, digest: str) -> float:
    """Seconds until the server says that it has the file."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, blocksize=BLOCK)
    connection.putrequest("PUT", f"/v1/blobs/{digest}")
    connection.putheader("Content-Length", str(source.stat().st_size))
    connection.endheaders()
    with source.open("rb") as file:
        assert connection.sock is not None
        connection.sock.sendfile(file)
    answer = connection.getresponse()
    body = answer.read()
    seconds = time.perf_counter() - began
    assert answer.status == 201, body
    return seconds


class Server:
    """`assay serve` with an empty data folder, and the highest memory it was seen with."""

    def __init__(self, data_dir: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        environment = {**os.environ, "ASSAY_DATA_DIR": str(data_dir), "ASSAY_FREE_SPACE_RESERVE_BYTES": "0"}
        command = [sys.executable, "-m", "api.cli", "serve", "--port", str(self.port)]
        self._process = subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.DEVNULL)
        self._memory = psutil.Process(self._process.pid)
        self.peak_bytes = 0
        self._watching = True
        self._wait()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _wait(self) -> None:
        while True:
            try:
                connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
                connection.request("GET", "/readyz")
                if connection.getresponse().status == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)

    def watch(self) -> int:
        """Begin to watch the memory; what it is now."""
        self._thread.start()
        return int(self._memory.memory_info().rss)

    def _watch(self) -> None:
        while self._watching:
            self.peak_bytes = max(self.peak_bytes, self._memory.memory_info().rss)
            time.sleep(0.02)

    def stop(self) -> None:
        self._watching = False
        self._process.terminate()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--dir", type=Path, default=ROOT / "build")
    options = parser.parse_args()
    options.dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        work = Path(folder)
        size = int(options.gib * 1024) * BLOCK
        baselines, uploads = [], []
        server = Server(work / "data")
        try:
            idle_bytes = server.watch()
            for run in range(options.runs):
                source = work / f"source-{run}"
                digest = make_file(source, size)
                baselines.append(baseline_s(source, work / "copy"))
                uploads.append(upload_s(server.port, source, digest))
                source.unlink()
                shutil.rmtree(work / "data" / "blobs" / "sha256" / digest[:2])
                print(f"run {run + 1}: cp+sync+sha256sum {baselines[-1]:.2f} s, upload {uploads[-1]:.2f} s")
        finally:
            server.stop()
    baseline, upload = statistics.median(baselines), statistics.median(uploads)
    print(f"{size / 2**30:.2f} GiB on {os.cpu_count()} cores, medians of {options.runs}:")
    print(f"  cp + sync + sha256sum  {baseline:6.2f} s  {size / baseline / 1e6:6.0f} MB/s")
    print(f"  PUT /v1/blobs          {upload:6.2f} s  {size / upload / 1e6:6.0f} MB/s  ratio {baseline / upload:.2f}")
    grown = (server.peak_bytes - idle_bytes) / 2**20
    print(f"  server memory          {idle_bytes / 2**20:.0f} MiB idle, {grown:+.0f} MiB at its peak")


if __name__ == "__main__":
    main()
