"""The HTTP transport under the Hub's own client: where it may connect to, for how long, and when it must stop.

huggingface_hub has one HTTP client per process and follows redirects by itself. What is allowed therefore sits below
it: every connection of a call made in `calling` is checked here, redirects and pages of listings included. Calls that
are not ours pass unchanged.
"""

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from threading import Lock

import httpx2
from huggingface_hub.utils import parse_ratelimit_headers

from core.hub.errors import HubBrokenError, HubRateLimitedError, HubStoppedError, HubUnavailableError
from core.hub.source import ShouldStop

#: Seconds until a connection must stand, and until the next byte must arrive.
CONNECT_S, READ_S = 10.0, 20.0
_TIMEOUT = {"connect": CONNECT_S, "read": READ_S, "write": READ_S, "pool": CONNECT_S}
#: Longest body of an error that is read.
MAX_COMPLAINT_BYTES = 2**20
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Allowed:
    """Where connections may go: the endpoint itself, and hosts it may redirect to.

    Attributes:
        endpoint: scheme, host and port; the only one that is sent a token.
        hosts: `host`, `host:port`, or `.domain` for all hosts under a domain. Without a port: the scheme's own.
    """

    endpoint: tuple[str, str, int]
    hosts: tuple[str, ...]

    def permits(self, url: httpx2.URL) -> bool:
        """Whether `url` may be connected to. Encryption is never given up on the way."""
        scheme, host, port = origin = origin_of(url)
        if origin == self.endpoint:
            return True
        if scheme != "https" and self.endpoint[0] != "http":
            return False
        if f"{host}:{port}" in self.hosts:
            return True
        usual = port == _DEFAULT_PORTS.get(scheme)
        return usual and any(host == item or (item[0] == "." and host.endswith(item)) for item in self.hosts)


def origin_of(url: httpx2.URL) -> tuple[str, str, int]:
    """Scheme, host and port."""
    return url.scheme, url.host, url.port or _DEFAULT_PORTS.get(url.scheme, 0)


@dataclass(slots=True)
class Call:
    """One use of the Hub's client.

    Attributes:
        patience_s: how long retrying may go on; the client's own back-off is cut short by it.
        limit_s: how long the call may take in all; None: as long as bytes keep coming.
        max_bytes: longest body of an answer, which will be in memory as a whole; None: whoever takes it counts.
    """

    allowed: Allowed
    should_stop: ShouldStop
    patience_s: float
    limit_s: float | None
    max_bytes: int | None
    _started: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """Raises HubStoppedError, or HubUnavailableError when time is up."""
        if self.should_stop():
            raise HubStoppedError
        if self.limit_s is not None and self._elapsed() > self.limit_s:
            raise unavailable(f"It took longer than {self.limit_s:.0f} s to answer.")

    def check_target(self, url: httpx2.URL) -> None:
        """Raises HubBrokenError (`hub_redirect_refused`)."""
        if not self.allowed.permits(url):
            raise HubBrokenError(
                "hub_redirect_refused",
                f"The Hub sends us to {url.host[:100]!r}, which is not among the hosts that files may come from.",
                "If that host is to be trusted, the operator adds it to ASSAY_HUB_REDIRECT_HOSTS.",
            )

    def may_retry(self, wait_s: float = 0.0) -> bool:
        """Whether there is patience left after another `wait_s`."""
        return self._elapsed() + wait_s < self.patience_s

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


_CALL: ContextVar[Call | None] = ContextVar("assay_hub_call", default=None)


@contextmanager
def calling(call: Call) -> Iterator[None]:
    """Everything the Hub's client does in this block and thread is bound by `call`."""
    token = _CALL.set(call)
    try:
        yield
    finally:
        _CALL.reset(token)


def unavailable(why: str) -> HubUnavailableError:
    """The problem for a Hub that cannot be reached or does not answer as it should at this moment."""
    return HubUnavailableError("hub_unavailable", f"The Hub cannot be used at the moment. {why}", "Try again later.")


class HubTransport(httpx2.BaseTransport):
    """Real connections, through a proxy where the environment names one; see the module's text for the rest."""

    def __init__(self) -> None:
        self._inner: dict[str | None, httpx2.HTTPTransport] = {}
        self._lock = Lock()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        call = _CALL.get()
        if call is None:
            return self._transport_for(request.url).handle_request(request)
        call.check()
        call.check_target(request.url)
        if origin_of(request.url) != call.allowed.endpoint:
            request.headers.pop("authorization", None)
        request.headers["accept-encoding"] = "identity"  # sizes are compared, and nothing inflates in memory
        request.extensions = {**request.extensions, "timeout": _TIMEOUT}
        try:
            response = self._transport_for(request.url).handle_request(request)
        except httpx2.TransportError as error:
            if not call.may_retry():
                raise unavailable(f"({type(error).__name__})") from error
            raise
        try:
            _check_status(response, call)
        except BaseException:
            response.close()
            raise
        assert isinstance(response.stream, httpx2.SyncByteStream)
        most = call.max_bytes if response.status_code < 400 else MAX_COMPLAINT_BYTES
        response.stream = _WatchedStream(response.stream, call, most)
        return response

    def close(self) -> None:
        with self._lock:
            for transport in self._inner.values():
                transport.close()
            self._inner.clear()

    def _transport_for(self, url: httpx2.URL) -> httpx2.HTTPTransport:
        proxy = urllib.request.getproxies().get(url.scheme)
        if proxy and urllib.request.proxy_bypass(url.host):
            proxy = None
        with self._lock:
            if proxy not in self._inner:
                self._inner[proxy] = httpx2.HTTPTransport(proxy=proxy)
            return self._inner[proxy]


class _WatchedStream(httpx2.SyncByteStream):
    """A body that ends when its call has to."""

    def __init__(self, inner: httpx2.SyncByteStream, call: Call, most: int | None) -> None:
        self._inner, self._call, self._most = inner, call, most

    def __iter__(self) -> Iterator[bytes]:
        seen = 0
        for part in self._inner:
            self._call.check()
            seen += len(part)
            if self._most is not None and seen > self._most:
                raise HubBrokenError("hub_invalid_answer", f"The Hub's answer is longer than {self._most} bytes.")
            yield part

    def close(self) -> None:
        self._inner.close()


def _check_status(response: httpx2.Response, call: Call) -> None:
    """Where the client would wait longer than the call has patience for, say so at once."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding != "identity":
        raise HubBrokenError("hub_invalid_answer", f"The Hub sends its answer as {encoding[:20]!r}, unasked.")
    status = response.status_code
    if status != 429 and status != 408 and status < 500:
        return
    wait_s = asked_to_wait(response)
    if status == 429 and not call.may_retry(wait_s + 1):
        raise HubRateLimitedError(wait_s)
    if status != 429 and not call.may_retry(wait_s):
        raise unavailable(f"It answers with status {status}.")


def asked_to_wait(response: httpx2.Response) -> float:
    """For how many seconds the Hub wants to be left alone, by either header it says so with; 0 if it does not say."""
    budget = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and budget is not None and budget.remaining == 0:
        return float(budget.reset_in_seconds)
    text = response.headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0
