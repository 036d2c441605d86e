"""tus as a state machine: whatever is sent, broken off, repeated or restarted, the server's offset is the number of
bytes on its disk, they are the right ones, and what becomes a blob is the file."""

import base64
import functools
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from api.app import create_app
from core.settings import Settings
from tests.support.http import is_problem, settings_in, sha256
from tests.support.tus import BYTES, VERSION, create, head, patch

LENGTH = 1000
SIZES = st.integers(min_value=0, max_value=LENGTH + 50)


class TusMachine(RuleBasedStateMachine):
    """The model is `kept`: the bytes an ideal server would have."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="assay-tus-"))
        self.settings: Settings = settings_in(self.folder / "data")
        self._start()
        self.stored: set[str] = set()
        self.data = b""
        self.kept = b""
        self.address = ""
        self.is_over = False

    def _start(self) -> None:
        self.app = create_app(self.settings)
        self.client = TestClient(self.app, base_url="http://127.0.0.1", raise_server_exceptions=False).__enter__()
        key, _ = self.app.state.services.keys.create("org_default", "test", ["upload"])
        self.client.headers["Authorization"] = f"Bearer {key}"

    def _stop(self) -> None:
        self.client.__exit__(None, None, None)

    def teardown(self) -> None:
        self._stop()
        shutil.rmtree(self.folder)

    @precondition(lambda self: self.is_over or not self.address)
    @rule(seed=st.integers(0, 255), announce=st.sampled_from(["right", "wrong", "nothing"]))
    def begin(self, seed: int, announce: str) -> None:
        self.data = hashlib.shake_128(bytes([seed])).digest(LENGTH)
        digest = {"right": sha256(self.data), "wrong": sha256(b"other"), "nothing": None}[announce]
        self.digest, self.kept, self.is_over = digest, b"", False
        self.address = create(self.client, LENGTH, digest)

    @property
    def file(self) -> Path:
        return self.settings.blobs_dir / "partial" / self.address.rsplit("/", 1)[1]

    def _after(self, answer: Any) -> None:
        """What the answer to a request that brought `self.kept` must be."""
        if len(self.kept) < LENGTH:
            assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(len(self.kept)))
            return
        self.is_over = True
        if self.digest in (None, sha256(self.kept)):
            assert answer.status_code == 204
            assert answer.headers["assay-blob"] == sha256(self.kept)
            self.stored.add(sha256(self.kept))
            assert self.app.state.services.store.path(sha256(self.kept)).read_bytes() == self.kept
            assert head(self.client, self.address) == LENGTH
        else:
            is_problem(answer, 422, "digest_mismatch")
            assert self.client.head(self.address, headers=VERSION).status_code == 404
            assert {blob.sha256 for blob in self.app.state.services.store.iter()} == self.stored
        assert not self.file.exists()

    @precondition(lambda self: self.address and not self.is_over)
    @rule(size=st.integers(0, 300), with_checksum=st.booleans())
    def add(self, size: int, with_checksum: bool) -> None:
        start = len(self.kept)
        part = self.data[start : start + size]
        headers = _checksum(part) if with_checksum else {}
        answer = patch(self.client, self.address, part, start, **headers)
        self.kept += part
        self._after(answer)

    @precondition(lambda self: self.kept and not self.is_over)
    @rule(restarted=st.booleans())
    def finish(self, restarted: bool) -> None:
        if restarted:
            self.restart()
        self.add(LENGTH, with_checksum=False)

    @precondition(lambda self: self.address and not self.is_over)
    @rule(size=st.integers(1, 100))
    def add_too_much(self, size: int) -> None:
        body = self.data[len(self.kept) :] + b"x" * size
        is_problem(patch(self.client, self.address, body, len(self.kept)), 413, "too_large")

    @precondition(lambda self: self.address and not self.is_over)
    @rule(size=st.integers(1, 100))
    def add_with_a_wrong_checksum(self, size: int) -> None:
        part = self.data[len(self.kept) : len(self.kept) + size]
        is_problem(patch(self.client, self.address, part, len(self.kept), **_checksum(part + b"x")), 460)

    @precondition(lambda self: self.address and not self.is_over)
    @rule(offset=SIZES)
    def add_elsewhere(self, offset: int) -> None:
        assume(offset != len(self.kept))
        answer = patch(self.client, self.address, b"x", offset)
        is_problem(answer, 409, "offset_mismatch")
        assert answer.headers["upload-offset"] == str(len(self.kept))

    @precondition(lambda self: self.address and not self.is_over)
    @rule(announced=st.integers(1, LENGTH), share=st.floats(0, 0.99), with_checksum=st.booleans())
    def break_off(self, announced: int, share: float, with_checksum: bool) -> None:
        """The client goes away in the middle of a body: what came stays, unless it cannot be verified."""
        start = len(self.kept)
        part = self.data[start : start + announced]
        sent = part[: int(len(part) * share)]
        headers = {**VERSION, **BYTES, "Upload-Offset": str(start), "Content-Length": str(len(part))}
        if with_checksum:
            headers |= _checksum(part)
        status = self._abort(headers, sent)
        assert status == 400
        if not with_checksum:
            self.kept += sent

    def _abort(self, headers: dict[str, str], sent: bytes) -> int:
        """A PATCH whose connection ends after `sent`; the status it would have been answered."""
        messages = iter([{"type": "http.request", "body": sent, "more_body": True}, {"type": "http.disconnect"}])
        statuses: list[int] = []

        async def receive() -> Any:
            return next(messages)

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])

        own = {**headers, "Authorization": self.client.headers["Authorization"]}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "PATCH",
            "path": self.address,
            "raw_path": self.address.encode(),
            "query_string": b"",
            "headers": [(name.lower().encode(), value.encode()) for name, value in own.items()],
            "scheme": "http",
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 9),
        }
        call: Callable[[], Any] = functools.partial(self.app, scope, receive, send)
        assert self.client.portal is not None
        self.client.portal.call(call)
        return statuses[0]

    @rule()
    def restart(self) -> None:
        self._stop()
        self._start()

    @precondition(lambda self: self.address and not self.is_over)
    @rule()
    def give_up(self) -> None:
        assert self.client.delete(self.address, headers=VERSION).status_code == 204
        assert self.client.head(self.address, headers=VERSION).status_code == 404
        assert not self.file.exists()
        self.kept = b""
        self.address = create(self.client, LENGTH, self.digest)

    @precondition(lambda self: self.address and not self.is_over)
    @invariant()
    def the_offset_is_what_is_on_the_disk(self) -> None:
        assert head(self.client, self.address) == len(self.kept)
        on_disk = self.file.read_bytes() if self.file.exists() else b""
        assert on_disk == self.kept == self.data[: len(self.kept)]


def _checksum(data: bytes) -> dict[str, str]:
    return {"Upload-Checksum": f"sha1 {base64.b64encode(hashlib.sha1(data).digest()).decode()}"}


TestTusMachine = TusMachine.TestCase
TestTusMachine.settings = settings(
    max_examples=20,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
