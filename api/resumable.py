"""The client's side of a resumable upload: goes on where it was broken off, also by an earlier run."""

import base64
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2

from core.errors import AssayError, IntegrityError, UnavailableError

OnBytes = Callable[[int, int], None]
BLOCK_BYTES = 1024 * 1024
PAUSE_S = 1.0
_VERSION = {"Tus-Resumable": "1.0.0"}
#: Statuses that asking for the offset again puts right: stalled, offset mismatch, locked.
_TRY_AGAIN = (408, 409, 423)


def send_resumably(
    send: Callable[..., httpx2.Response], path: Path, sha256: str, patience_s: float, on_bytes: OnBytes | None = None
) -> None:
    """Upload a file in as many goes as it takes.

    Args:
        send: (method, address, allowed=statuses, **options) -> response; raises AssayError for other statuses and
            UnavailableError when the server cannot be reached.
        sha256: of the file; what the server must have in the end.
        patience_s: how long the server may be away, or take nothing, before that is an error.
        on_bytes: called with bytes there and bytes in all.

    Raises:
        IntegrityError: the file is not what it was when it was hashed, or the server says it stored something else.
        AssayError: what `send` raises for good.
    """
    size = path.stat().st_size
    address = _known(send, sha256, size) or _begin(send, path.name, sha256, size)
    furthest, stuck_since = -1, math.inf
    while True:
        try:
            answer = send("HEAD", address, headers=_VERSION)
            offset = int(answer.headers["upload-offset"])
            if offset > furthest:
                furthest, stuck_since = offset, math.inf
            if "assay-blob" not in answer.headers:
                answer = send(
                    "PATCH",
                    address,
                    allowed=_TRY_AGAIN,
                    content=_rest(path, offset, size, on_bytes),
                    headers={
                        **_VERSION,
                        "Upload-Offset": str(offset),
                        "Content-Type": "application/offset+octet-stream",
                        "Content-Length": str(size - offset),
                    },
                )
            stored = answer.headers.get("assay-blob")
            if stored is not None:
                if stored != sha256:
                    raise IntegrityError("digest_mismatch", "The server stored other bytes than were sent.")
                return
            failure: AssayError = UnavailableError("upload_interrupted", "The server does not take the file.")
        except UnavailableError as error:
            failure = error
        stuck_since = min(stuck_since, time.monotonic())
        if time.monotonic() - stuck_since > patience_s:
            raise failure
        time.sleep(PAUSE_S)


def _known(send: Callable[..., httpx2.Response], sha256: str, size: int) -> str | None:
    """The address of the same upload that was begun before and is still open."""
    items: list[dict[str, Any]] = send("GET", "/v1/uploads").json()["items"]
    return next((item["links"]["self"] for item in items if (item["sha256"], item["length"]) == (sha256, size)), None)


def _begin(send: Callable[..., httpx2.Response], name: str, sha256: str, size: int) -> str:
    metadata = ",".join(
        f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in (("sha256", sha256), ("filename", name))
    )
    headers = {**_VERSION, "Upload-Length": str(size), "Upload-Metadata": metadata}
    return str(send("POST", "/v1/uploads", headers=headers).headers["location"])


def _rest(path: Path, offset: int, size: int, on_bytes: OnBytes | None) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while offset < size:
            block = file.read(min(BLOCK_BYTES, size - offset))
            if not block:
                raise IntegrityError("file_changed", f"{path.name} became shorter while it was sent.")
            yield block
            offset += len(block)
            if on_bytes is not None:
                on_bytes(offset, size)
