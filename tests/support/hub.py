"""A Hub of one's own: what huggingface_hub asks of the public one, on a spare port, with faults on demand.

Repositories, revisions, listings (in pages), files with ETag, X-Repo-Commit, X-Linked-*, Content-Length and ranges,
large files behind a redirect to another host, private and gated repositories, and everything that can go wrong.
"""

import hashlib
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

LARGE_SUFFIXES = (".safetensors", ".bin", ".h5")
BLOCK = 64 * 1024


@dataclass
class Fault:
    """What to do instead, for one request (or `times` of them)."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut_after: int | None = None  # promise everything, send so many bytes, hang up
    short_by: int = 0  # promise and send so many bytes less
    surplus: bytes = b""  # send this behind the file
    wrong: bool = False  # right size, other bytes
    block_pause_s: float = 0.0  # between blocks of BLOCK bytes
    no_ranges: bool = False
    redirect: str | None = None
    encoding: str | None = None
    body: bytes | None = None
    times: int = 1


@dataclass
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    host: str
    range: str | None
    authorization: str | None


@dataclass
class Repo:
    """Commits by their names, newest last; refs by theirs."""

    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)
    token: str | None = None  # private: only with it
    gated: bool = False  # with any token but `token`: not granted


class LocalHub:
    """What the server knows; change it while it runs."""

    def __init__(self) -> None:
        self.address = self.storage = ""
        self.repos: dict[str, Repo] = {}
        self.faults: dict[str, list[Fault]] = {}  # by file path, or "revision" and "tree"
        self.asked: list[Asked] = []
        self.page_size = 1000
        self.large_files = True  # False: listed without SHA-256, served directly

    def publish(self, repo: str, files: dict[str, bytes], ref: str = "main") -> str:
        """A new commit, which `ref` now points to."""
        found = self.repos.setdefault(repo, Repo())
        text = json.dumps([[path, hashlib.sha256(data).hexdigest()] for path, data in sorted(files.items())])
        commit = hashlib.sha1(f"{len(found.commits)}{text}".encode()).hexdigest()
        found.commits[commit] = dict(files)
        found.refs[ref] = commit
        return commit

    def fail(self, what: str, *faults: Fault) -> None:
        """Faults for the next requests about a file path, "revision" or "tree"."""
        self.faults.setdefault(what, []).extend(faults)

    def gets(self, path: str) -> list[Asked]:
        """The requests for the bytes of a file, in order; of a large one those at the storage."""
        return [item for item in self.asked if item.method == "GET" and item.path.endswith(f"/{path}")]

    def take_fault(self, what: str) -> Fault | None:
        waiting = self.faults.get(what)
        if not waiting:
            return None
        waiting[0].times -= 1
        return waiting.pop(0) if waiting[0].times <= 0 else waiting[0]


def git_oid(data: bytes) -> str:
    """Git's name for these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@contextmanager
def local_hub() -> Iterator[LocalHub]:
    """A running Hub. Its large files come from the same port under another host name (`storage`)."""
    hub = LocalHub()
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # bodies that break off are wanted here
    config = uvicorn.Config(_app(hub), log_config=None, access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = int(bound.getsockname()[1])
        hub.address, hub.storage = f"http://127.0.0.1:{port}", f"localhost:{port}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the Hub did not start"
            assert time.monotonic() < deadline, "the Hub did not start in time"
            time.sleep(0.01)
        try:
            yield hub
        finally:
            server.should_exit = True
            thread.join(10)


def settings_for(hub: LocalHub) -> dict[str, Any]:
    """Settings of a service that uses this Hub."""
    return {"hub_endpoint": hub.address, "hub_redirect_hosts": hub.storage, "hub_offline": False}


def _app(hub: LocalHub) -> Starlette:
    async def revision(request: Request) -> Response:
        repo, refusal = _enter(hub, request)
        if repo is None:
            return refusal
        if (fault := hub.take_fault("revision")) is not None:
            return _plain_fault(fault)
        commit = _commit(repo, request.path_params["revision"])
        if commit is None:
            return _refuse(404, "RevisionNotFound")
        siblings = [{"rfilename": path} for path in repo.commits[commit]]
        return JSONResponse({"id": _name(request), "modelId": _name(request), "sha": commit, "siblings": siblings})

    async def tree(request: Request) -> Response:
        repo, refusal = _enter(hub, request)
        if repo is None:
            return refusal
        if (fault := hub.take_fault("tree")) is not None:
            return _plain_fault(fault)
        commit = _commit(repo, request.path_params["revision"])
        if commit is None:
            return _refuse(404, "RevisionNotFound")
        files = sorted(repo.commits[commit].items())
        first = int(request.query_params.get("cursor", 0))
        entries = [_entry(hub, path, data) for path, data in files[first : first + hub.page_size]]
        headers = {}
        if first + hub.page_size < len(files):
            address = f"{hub.address}{request.url.path}?recursive=true&cursor={first + hub.page_size}"
            headers["Link"] = f'<{address}>; rel="next"'
        return JSONResponse(entries, headers=headers)

    async def resolve(request: Request) -> Response:
        repo, refusal = _enter(hub, request)
        if repo is None:
            return refusal
        commit, path = _commit(repo, request.path_params["revision"]), request.path_params["path"]
        if commit is None:
            return _refuse(404, "RevisionNotFound")
        if path not in repo.commits[commit]:
            return _refuse(404, "EntryNotFound", {"X-Repo-Commit": commit})
        data = repo.commits[commit][path]
        headers = {"X-Repo-Commit": commit}
        if not _is_large(hub, path):
            return _content(request, data, git_oid(data), headers, hub.take_fault(path))
        digest = hashlib.sha256(data).hexdigest()
        headers |= {"X-Linked-ETag": f'"{digest}"', "X-Linked-Size": str(len(data))}
        waiting = hub.faults.get(path)
        target = f"http://{hub.storage}/storage/{_name(request)}/{commit}/{path}?Signature=canary-signature"
        if waiting and waiting[0].redirect:
            target = str(hub.take_fault(path).redirect)  # type: ignore[union-attr]
        return Response(status_code=302, headers={**headers, "Location": target})

    async def storage(request: Request) -> Response:
        _note(hub, request)
        data = hub.repos[_name(request)].commits[request.path_params["commit"]][request.path_params["path"]]
        fault = hub.take_fault(request.path_params["path"])
        return _content(request, data, hashlib.sha256(data).hexdigest(), {}, fault)

    return Starlette(
        routes=[
            Route("/api/models/{org}/{name}/revision/{revision:path}", revision),
            Route("/api/models/{org}/{name}/tree/{revision}", tree),
            Route("/api/{kind}/{org}/{name}/revision/{revision:path}", revision),
            Route("/api/{kind}/{org}/{name}/tree/{revision}", tree),
            Route("/{org}/{name}/resolve/{revision}/{path:path}", resolve),
            Route("/{kind}/{org}/{name}/resolve/{revision}/{path:path}", resolve),
            Route("/storage/{org}/{name}/{commit}/{path:path}", storage),
            Route("/storage/{kind}/{org}/{name}/{commit}/{path:path}", storage),
        ]
    )


def _name(request: Request) -> str:
    """org/name, or datasets/org/name."""
    return "/".join(request.path_params[part] for part in ("kind", "org", "name") if part in request.path_params)


def _note(hub: LocalHub, request: Request) -> None:
    headers = request.headers
    hub.asked.append(
        Asked(
            request.method,
            request.url.path,
            headers.get("host", ""),
            headers.get("range"),
            headers.get("authorization"),
        )
    )


def _enter(hub: LocalHub, request: Request) -> tuple[Repo | None, Response]:
    """The repository, or what its bouncer says: in the public Hub's words."""
    _note(hub, request)
    repo = hub.repos.get(_name(request))
    token = (request.headers.get("authorization") or "").removeprefix("Bearer ")
    if repo is not None and repo.token is not None and token != repo.token:
        if repo.gated:
            return None, _refuse(403 if token else 401, "GatedRepo")
        if token:
            return None, _refuse(401, None, {"X-Error-Message": "Invalid credentials in Authorization header"})
        repo = None
    if repo is None:
        return None, _refuse(404 if token else 401, "RepoNotFound")
    return repo, Response()


def _refuse(status: int, code: str | None, headers: dict[str, str] | None = None) -> Response:
    extra = {"X-Error-Code": code, "X-Error-Message": code} if code else {}
    return JSONResponse({"error": "canary-server-words"}, status, headers={**extra, **(headers or {})})


def _commit(repo: Repo, revision: str) -> str | None:
    return repo.refs.get(revision, revision if revision in repo.commits else None)


def _is_large(hub: LocalHub, path: str) -> bool:
    return hub.large_files and path.endswith(LARGE_SUFFIXES)


def _entry(hub: LocalHub, path: str, data: bytes) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": len(data), "oid": git_oid(data)}
    if _is_large(hub, path):
        entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
    return entry


def _plain_fault(fault: Fault) -> Response:
    return Response(fault.body or b"", fault.status or 200, headers=fault.headers)


def _content(request: Request, data: bytes, etag: str, headers: dict[str, str], fault: Fault | None) -> Response:
    fault = fault or Fault()
    if fault.status is not None:
        return _plain_fault(fault)
    if fault.wrong:
        data = bytes(255 - byte for byte in data)
    data = data[: len(data) - fault.short_by] + fault.surplus
    status, first = 200, 0
    headers = {**headers, **fault.headers, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
    if fault.encoding:
        headers["Content-Encoding"] = fault.encoding
    asked = request.headers.get("range", "")
    if asked.startswith("bytes=") and not fault.no_ranges:
        status, first = 206, int(asked.removeprefix("bytes=").rstrip("-"))
        headers["Content-Range"] = f"bytes {first}-{len(data) - 1}/{len(data)}"
    body = data[first:]
    headers["Content-Length"] = str(len(body))
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    if fault.cut_after is not None:
        body = body[: fault.cut_after]

    async def blocks() -> AsyncIterator[bytes]:
        for start in range(0, len(body), BLOCK):
            yield body[start : start + BLOCK]
            await anyio.sleep(fault.block_pause_s)

    return StreamingResponse(blocks(), status, headers)
