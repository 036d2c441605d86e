"""A small client of the API, for the command line and the demo."""

import contextlib
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2

from api.resumable import OnBytes, send_resumably
from core.config import ScanConfig
from core.errors import AssayError, IntegrityError, UnavailableError, UnsafeError, UnsupportedError

BLOCK_BYTES = 1024 * 1024
RESUMABLE_BYTES = 64 * 1024 * 1024  # larger files are not sent in one go
POLL_S = 1.0
AWAY_S = 60.0  # a server that restarts is waited for this long
_TIMEOUT = httpx2.Timeout(30.0, read=120.0, write=120.0)

OnScan = Callable[[dict[str, Any]], None]


class ServerError(AssayError):
    """A problem document from the server; `status` is its HTTP status."""

    def __init__(self, status: int, code: str, detail: str, hint: str = "") -> None:
        super().__init__(code, detail, hint)
        self.status = status


@dataclass(frozen=True, slots=True)
class GateReply:
    """The gate's answer. Whatever went wrong, `allow` is False."""

    allow: bool
    decision: str
    reasons: tuple[str, ...]
    error: str | None = None
    document: dict[str, Any] | None = None


class Client:
    """Talks to one server; a context manager.

    Args:
        server: base address, such as http://127.0.0.1:8000.
        api_key: sent as a bearer token.
        transport: for tests.

    Every method raises ServerError (or UnsupportedError, UnsafeError, by its code) for a problem document, and
    UnavailableError if the server cannot be reached.
    """

    def __init__(
        self, server: str, api_key: str | None = None, *, transport: httpx2.BaseTransport | None = None
    ) -> None:
        headers = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._http = httpx2.Client(base_url=server, headers=headers, timeout=_TIMEOUT, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def healthy(self) -> str:
        """The server's version, if it answers."""
        return str(self._json("GET", "/healthz")["version"])

    def upload(self, path: Path, on_bytes: OnBytes | None = None) -> str:
        """Send a file unless the server has it; returns its SHA-256. Large ones survive broken connections."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        address = f"/v1/blobs/{digest}"
        if self._send("HEAD", address, allowed=(404,)).status_code == 200:
            return digest
        size = path.stat().st_size
        if size > RESUMABLE_BYTES:
            send_resumably(self._send, path, digest, AWAY_S, on_bytes)
            return digest
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        self._send("PUT", address, content=_read(path, size, on_bytes), headers=headers)
        return digest

    def submit(
        self,
        model: Mapping[str, Any],
        reference_sha256: str | None,
        config: ScanConfig,
        *,
        force: bool = False,
        reference_set: str | None = None,
    ) -> dict[str, Any]:
        """The scan that was started, or the earlier one that answers the same question (`reused`).

        Args:
            model: an api.schemas.ModelRef as JSON.
            reference_sha256: an uploaded file, unless `reference_set` is given.
            reference_set: the id of a set.
        """
        reference = None if reference_sha256 is None else {"blob": reference_sha256}
        body = {
            "model": dict(model),
            "reference_set": reference if reference_set is None else {"set": reference_set},
            "kind": "auto" if config.kind is None else config.kind.value,
            "architecture": config.architecture,
            "preprocess": _preprocess(config),
            "purify": config.purify.value,
            "preset": config.preset.value,
            "seed": config.seed,
            "vocabulary": list(config.vocabulary),
            "templates": list(config.templates),
            "force": force,
        }
        return self._json("POST", "/v1/scans", json=body)

    def inspect(self, model: Mapping[str, Any], config: ScanConfig) -> dict[str, Any]:
        """A core.report.inspection.InspectionReport as JSON.

        Args:
            model: an api.schemas.ModelRef as JSON.
            config: its architecture, preprocess and preset count.
        """
        body = {
            "model": dict(model),
            "architecture": config.architecture,
            "preprocess": _preprocess(config),
            "preset": config.preset.value,
        }
        return self._json("POST", "/v1/models:inspect", json=body)

    def scan(self, scan_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/scans/{scan_id}")

    def scans(self, limit: int = 20) -> list[dict[str, Any]]:
        """The newest scans, newest first."""
        items: list[dict[str, Any]] = self._json("GET", "/v1/scans", params={"limit": limit})["items"]
        return items

    def wait(
        self, scan_id: str, on_scan: OnScan | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> dict[str, Any]:
        """Wait until the scan is over; `on_scan` sees it about every second.

        A scan survives a restart of its server, and so does this: the server may be away for up to AWAY_S.
        When `should_stop` says so, the scan is canceled; it is still waited for.
        """
        asked_to_cancel = False
        last_seen = time.monotonic()
        while True:
            try:
                if should_stop() and not asked_to_cancel:
                    self.cancel(scan_id)
                    asked_to_cancel = True
                scan = self._json("GET", f"/v1/scans/{scan_id}", params={"wait": POLL_S})
                last_seen = time.monotonic()
            except UnavailableError:
                if time.monotonic() - last_seen > AWAY_S:
                    raise
                time.sleep(POLL_S)
                continue
            if on_scan is not None:
                on_scan(scan)
            if scan["state"] in ("succeeded", "failed", "canceled"):
                return scan

    def cancel(self, scan_id: str) -> None:
        """Cancel; a scan that is over already is left as it is."""
        self._send("POST", f"/v1/scans/{scan_id}/cancel", allowed=(409,))

    def report(self, scan_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/scans/{scan_id}/report")

    def model(self, model_id: str) -> dict[str, Any]:
        return self._json("GET", f"/v1/models/{model_id}")

    def download(self, sha256: str, path: Path) -> None:
        """Write an artifact to `path`, whole and verified or not at all.

        Raises:
            IntegrityError: what arrived is not what was asked for.
        """
        running = hashlib.sha256()
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            with (
                _reachable(),
                self._http.stream("GET", f"/v1/artifacts/{sha256}") as response,
                temporary.open("wb") as file,
            ):
                if response.status_code != 200:
                    response.read()
                    raise _error_of(response)
                for block in response.iter_bytes(BLOCK_BYTES):
                    running.update(block)
                    file.write(block)
                file.flush()
                os.fsync(file.fileno())
            if running.hexdigest() != sha256:
                raise IntegrityError("digest_mismatch", "The bytes downloaded are not the ones that were asked for.")
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def gate(self, sha256: str) -> GateReply:
        """May the file with this digest be used? Never raises: whatever goes wrong is a no."""
        try:
            document = self._json("GET", "/v1/gate", params={"sha256": sha256})
            if document["sha256"] != sha256:
                raise IntegrityError("digest_mismatch", "The gate answered for another file.")
            reasons = tuple(str(reason["code"]) for reason in document["reasons"])
            allow = document["allow"] is True and document["decision"] == "allow"
            return GateReply(allow, str(document["decision"]), reasons, None, document)
        except AssayError as error:
            return GateReply(False, "block", (error.code,), error.detail)
        except (KeyError, TypeError, ValueError):
            return GateReply(False, "block", ("invalid_answer",), "The server's answer is not a gate's.")

    def _json(self, method: str, address: str, **options: Any) -> dict[str, Any]:
        response = self._send(method, address, **options)
        try:
            document = response.json()
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise ServerError(response.status_code, "invalid_answer", "The server did not answer with JSON.")
        return document

    def _send(self, method: str, address: str, allowed: tuple[int, ...] = (), **options: Any) -> httpx2.Response:
        with _reachable():
            response = self._http.request(method, address, **options)
        if response.is_success or response.status_code in allowed:
            return response
        raise _error_of(response)


@contextlib.contextmanager
def _reachable() -> Iterator[None]:
    try:
        yield
    except httpx2.InvalidURL as error:
        raise UnavailableError("invalid_address", f"The server's address is not valid: {error}") from None
    except httpx2.HTTPError as error:
        raise UnavailableError(
            "server_unreachable", f"The server cannot be reached: {error}", "Is it running, and the address right?"
        ) from None


def _error_of(response: httpx2.Response) -> AssayError:
    """The exception a problem document stands for."""
    try:
        document = response.json()
        code, detail = str(document["code"]), str(document["detail"])
        hint = str(document.get("hint", ""))
    except (ValueError, KeyError, TypeError):
        code, detail, hint = "http_error", f"The server answered with status {response.status_code}.", ""
    if response.status_code in (502, 503, 504):
        return UnavailableError(code, detail, hint)
    if code.startswith("unsupported_"):
        return UnsupportedError(code, detail, hint)
    if code.startswith("unsafe_"):
        return UnsafeError(code, detail, hint)
    return ServerError(response.status_code, code, detail, hint)


def _read(path: Path, size: int, on_bytes: OnBytes | None) -> Iterator[bytes]:
    sent = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            yield block
            sent += len(block)
            if on_bytes is not None:
                on_bytes(sent, size)


def _preprocess(config: ScanConfig) -> Any:
    if config.preprocess is None:
        return "auto"
    return {name: list(getattr(config.preprocess, name)) for name in ("mean", "std", "size")}
