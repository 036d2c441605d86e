"""tus requests by hand."""

import base64
from typing import Any

from tests.support.http import Harness

VERSION = {"Tus-Resumable": "1.0.0"}
BYTES = {"Content-Type": "application/offset+octet-stream"}


def encoded(text: str) -> str:
    """A value of Upload-Metadata."""
    return base64.b64encode(text.encode()).decode()


def create(client: Any, length: int, sha256: str | None = None) -> str:
    """Begin an upload; its address."""
    headers = {**VERSION, "Upload-Length": str(length)}
    if sha256 is not None:
        headers["Upload-Metadata"] = f"sha256 {encoded(sha256)}"
    answer = client.post("/v1/uploads", headers=headers)
    assert answer.status_code == 201, answer.text
    return str(answer.headers["location"])


def patch(client: Any, address: str, content: Any, offset: int, **headers: str) -> Any:
    """Add bytes; the answer."""
    return client.patch(address, content=content, headers={**VERSION, **BYTES, "Upload-Offset": str(offset), **headers})


def head(client: Any, address: str) -> int:
    """The offset."""
    answer = client.head(address, headers=VERSION)
    assert answer.status_code == 200, answer.headers
    return int(answer.headers["upload-offset"])


def unfinished(harness: Harness) -> list[str]:
    """The uploads whose bytes are on the disk."""
    return [path.name for path in (harness.services.settings.blobs_dir / "partial").iterdir()]
