"""The words of the tus protocol, version 1.0.0 (https://tus.io/protocols/resumable-upload): headers in, headers out."""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from email.utils import format_datetime
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from api import links, problems
from api.filenames import clean_filename
from api.problems import ProblemError
from core.errors import AssayError
from core.jobs.uploads import NewUpload, UploadView

VERSION = "1.0.0"
EXTENSIONS = "creation,creation-with-upload,expiration,termination,checksum"
CHECKSUMS = ("sha1", "sha256")
MEDIA_TYPE = "application/offset+octet-stream"
MAX_METADATA_BYTES = 4096

_NUMBER = re.compile(r"[0-9]{1,18}")
_KEY = re.compile(r"[!-+\--~]+")  # printable ASCII without space and comma
_DIGEST = re.compile(r"[0-9a-f]{64}")


class TusRoute(APIRoute):
    """Every answer, problems included, says which version of the protocol it speaks."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_tus(request: Request) -> Response:
            try:
                response = await handle(request)
            except AssayError as error:
                response = problems.from_assay_error(request, error)
            response.headers["Tus-Resumable"] = VERSION
            return response

        return handle_tus


def require_version(request: Request) -> None:
    """Dependency. Raises ProblemError (412) for a client that does not say it speaks our version."""
    if request.headers.get("tus-resumable") != VERSION:
        raise ProblemError(
            412,
            "tus_version",
            f"This address speaks tus {VERSION}; the Tus-Resumable header says otherwise or is missing.",
            "Use a tus client, or PUT /v1/blobs/{sha256}.",
            headers={"Tus-Version": VERSION},
        )


def new_upload(request: Request) -> NewUpload:
    """What the headers of a creation announce.

    Raises:
        ProblemError: 400, a header is missing, malformed, or asks for what is not offered.
    """
    for name in ("upload-defer-length", "upload-concat"):
        if name in request.headers:
            raise _bad("tus_extension", f"{name} is not offered.", f"Offered are: {EXTENSIONS}.")
    metadata = request.headers.get("upload-metadata", "")
    found = _parse_metadata(metadata)
    sha256 = found.get("sha256")
    if sha256 is not None and not _DIGEST.fullmatch(sha256):
        raise _bad("invalid_metadata", "The sha256 in Upload-Metadata is not 64 lower-case hexadecimal digits.")
    return NewUpload(
        length=_number(request, "upload-length"),
        sha256=sha256,
        filename=clean_filename(found.get("filename", ""), default="upload"),
        client_metadata=metadata,
    )


def offset_of(request: Request) -> int:
    """The Upload-Offset header. Raises ProblemError (400)."""
    return _number(request, "upload-offset")


def carries_bytes(request: Request) -> bool:
    """Whether the body is a part of the file."""
    return request.headers.get("content-type", "").strip().lower() == MEDIA_TYPE


@dataclass(slots=True)
class Checksum:
    """What the bytes of one request must hash to."""

    expected: bytes
    running: Any  # of hashlib

    @property
    def is_right(self) -> bool:
        return bool(self.running.digest() == self.expected)


def checksum_of(request: Request) -> Checksum | None:
    """The Upload-Checksum header, if there is one. Raises ProblemError (400)."""
    value = request.headers.get("upload-checksum")
    if value is None:
        return None
    algorithm, _, encoded = value.strip().partition(" ")
    if algorithm not in CHECKSUMS:
        raise _bad("unsupported_checksum", "This checksum algorithm is not offered.", f"Offered: {CHECKSUMS}.")
    expected = _decoded(encoded.strip())
    running = hashlib.new(algorithm, usedforsecurity=False)
    if expected is None or len(expected) != running.digest_size:
        raise _bad("invalid_checksum", f"Upload-Checksum is not a base64 {algorithm}.")
    return Checksum(expected, running)


def headers_of(view: UploadView) -> dict[str, str]:
    """Where an upload stands, for every answer about it."""
    headers = {"Upload-Offset": str(view.offset), "Upload-Expires": format_datetime(view.expires_at, usegmt=True)}
    if view.blob_sha256 is not None:
        headers["Assay-Blob"] = view.blob_sha256
        headers["Link"] = f'<{links.blob(view.blob_sha256)}>; rel="item"'
    return headers


def _number(request: Request, name: str) -> int:
    value = request.headers.get(name, "")
    if not _NUMBER.fullmatch(value):
        raise _bad(f"invalid_{name.replace('-', '_')}", f"The header {name.title()} is missing or no whole number.")
    return int(value)


def _parse_metadata(header: str) -> dict[str, str]:
    if len(header) > MAX_METADATA_BYTES:
        raise _bad("invalid_metadata", f"Upload-Metadata is longer than {MAX_METADATA_BYTES} bytes.")
    found: dict[str, str] = {}
    for pair in header.split(",") if header.strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        value = _decoded(encoded.strip())
        if not _KEY.fullmatch(key) or key in found or value is None:
            raise _bad("invalid_metadata", "Upload-Metadata is not a list of different keys with base64 values.")
        found[key] = value.decode("utf-8", "replace")
    return found


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _bad(code: str, detail: str, hint: str = "") -> ProblemError:
    return ProblemError(400, code, detail, hint)
