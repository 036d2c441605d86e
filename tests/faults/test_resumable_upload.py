"""A stock tus client, a network that breaks, and a server that is restarted and killed in the middle."""

import os
import random
import signal
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
from tusclient.client import TusClient
from tusclient.uploader import Uploader

from tests.support.cutting import CuttingProxy, cutting_proxy
from tests.support.http import MIB, sha256
from tests.support.processes import stop, wait_until
from tests.support.serving import serving

SIZE = 24 * MIB


class Site:
    """`assay serve` that can be ended and started again on the same data, behind a proxy that stays."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self.proxy: CuttingProxy = stack.enter_context(cutting_proxy(0))
        self.address = f"http://127.0.0.1:{self.proxy.port}"
        self.start()

    def start(self) -> None:
        self.http: httpx2.Client
        self.process: subprocess.Popen[str]
        self.http, self.process = self._stack.enter_context(serving(self._folder / "data"))
        self.proxy.target = urlsplit(str(self.http.base_url)).port or 0

    def end(self, number: int) -> None:
        stop(self.process, number)  # type: ignore[arg-type]

    def uploader(self, data: bytes, **options: object) -> Uploader:
        path = self._folder / "file.bin"
        path.write_bytes(data)
        metadata = {"sha256": sha256(data), "filename": "file.bin"}
        client = TusClient(f"{self.address}/v1/uploads")
        return client.uploader(str(path), metadata=metadata, retries=300, retry_delay=0.2, **options)

    def files(self, kind: str) -> list[Path]:
        return [path for path in (self._folder / "data" / "blobs" / kind).rglob("*") if path.is_file()]


def check(site: Site, uploader: Uploader, data: bytes) -> None:
    """The upload became exactly this blob, and nothing else is left."""
    shown = site.http.get(urlsplit(uploader.url).path).json()
    assert (shown["blob"], shown["offset"]) == (sha256(data), len(data))
    (blob,) = site.files("sha256")
    assert blob.name == sha256(data)
    assert blob.read_bytes() == data
    assert site.files("partial") == site.files("tmp") == []


def test_interrupted_ten_times_at_random(tmp_path: Path) -> None:
    rng = random.Random(7)
    data = rng.randbytes(SIZE)
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        uploader = site.uploader(data, chunk_size=3 * MIB)
        uploader.set_url(uploader.create_url())
        site.proxy.cuts = [rng.randrange(3 * MIB) for _ in range(10)]
        uploader.upload()
        assert site.proxy.done == 10
        check(site, uploader, data)


def test_a_restart_and_a_kill_in_the_middle(tmp_path: Path) -> None:
    data = os.urandom(SIZE)
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        uploader = site.uploader(data, chunk_size=MIB)
        failures: list[BaseException] = []

        def upload() -> None:
            try:
                uploader.upload()
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=upload)
        thread.start()
        for number, share in ((signal.SIGTERM, 0.2), (signal.SIGKILL, 0.5)):
            wait_until(lambda share=share: uploader.offset >= share * SIZE or failures, 60, "part of the upload")
            site.end(number)
            partial = site.files("partial")
            assert [path.stat().st_size < SIZE for path in partial] == [True]
            site.start()
        thread.join(60)
        assert failures == []
        check(site, uploader, data)


def test_killed_in_the_middle_of_one_request(tmp_path: Path) -> None:
    """The whole file is one PATCH: what had arrived when the server was killed is not sent again."""
    data = os.urandom(SIZE)
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        uploader = site.uploader(data)
        uploader.set_url(uploader.create_url())
        address = urlsplit(uploader.url)
        half = len(data) // 2
        with socket.create_connection(("127.0.0.1", site.proxy.port)) as connection:
            connection.sendall(
                f"PATCH {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nTus-Resumable: 1.0.0\r\n"
                f"Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n"
                f"Content-Length: {len(data)}\r\n\r\n".encode()
                + data[:half]
            )
            wait_until(lambda: site.files("partial") and site.files("partial")[0].stat().st_size, 20, "some bytes")
            site.end(signal.SIGKILL)
        there = site.files("partial")[0].stat().st_size
        assert 0 < there <= half
        site.start()
        assert uploader.get_offset() == there
        uploader.offset = there
        uploader.upload()
        check(site, uploader, data)
