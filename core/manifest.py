"""Which files make up a model of several files. The digest of this list names the model."""

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidInputError, UnsupportedError

SCHEMA = "assay-manifest/1"
#: More files than this are no model, and longer manifests are not read.
MAX_FILES, MAX_BYTES = 1_000, 1 << 20
MAX_PATH = 255
_DIGEST = re.compile(r"[0-9a-f]{64}")
#: What a path may look like: relative, POSIX, no part that begins with a dot or a blank.
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@ -]*")


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """One file of a model.

    Attributes:
        path: relative POSIX path within the model, see `check_path`.
        sha256: of its bytes, 64 lower-case hexadecimal digits.
        size_bytes: >= 0.
    """

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """The files of a model, by path. Equal files give equal bytes and an equal digest, wherever they came from."""

    files: tuple[ManifestFile, ...]

    @classmethod
    def of(cls, files: Iterable[ManifestFile]) -> "Manifest":
        """Checks and sorts.

        Raises:
            InvalidInputError: `invalid_manifest`: none, too many, a bad path or digest, two names for one place.
        """
        ordered = tuple(sorted(files, key=lambda file: file.path))
        if not 1 <= len(ordered) <= MAX_FILES:
            raise _invalid(f"It lists {len(ordered)} files; 1 to {MAX_FILES} are taken.")
        for file in ordered:
            check_path(file.path)
            if not _DIGEST.fullmatch(file.sha256) or file.size_bytes < 0:
                raise _invalid(f"The digest or size of {file.path!r} is none.")
        folded = {file.path.casefold() for file in ordered}
        if len(folded) != len(ordered):
            raise _invalid("Two of its paths differ in upper and lower case only, or not at all.")
        if any(parent in folded for path in folded for parent in _parents(path)):
            raise _invalid("One of its paths is a file and a folder.")
        return cls(ordered)

    @property
    def size_bytes(self) -> int:
        """Of all files together."""
        return sum(file.size_bytes for file in self.files)

    def to_bytes(self) -> bytes:
        """Canonical JSON."""
        files = [{"path": f.path, "sha256": f.sha256, "size_bytes": f.size_bytes} for f in self.files]
        return json.dumps({"files": files, "schema": SCHEMA}, sort_keys=True, separators=(",", ":")).encode()

    @property
    def sha256(self) -> str:
        """Digest of the canonical JSON: what names the model."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Manifest":
        """Inverse of `to_bytes`; takes canonical JSON only.

        Raises:
            InvalidInputError: `invalid_manifest`.
            UnsupportedError: `unsupported_manifest`: another schema.
        """
        if len(data) > MAX_BYTES:
            raise _invalid("It is too long.")
        try:
            value = json.loads(data)
            schema, entries = value["schema"], value["files"]
            files = [_entry(entry) for entry in entries]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _invalid("It is not such JSON.") from error
        if schema != SCHEMA:
            raise UnsupportedError("unsupported_manifest", f"The manifest's schema is {str(schema)[:40]!r}.")
        manifest = cls.of(files)
        if manifest.to_bytes() != data:
            raise _invalid("It is not in canonical form.")
        return manifest


def check_path(path: str) -> str:
    """Returns `path` if it may name a file of a model.

    Raises:
        InvalidInputError: `invalid_manifest`: absolute, with `..`, hidden, too long, or with unusual characters.
    """
    parts = path.split("/")
    if len(path) > MAX_PATH or not all(_PART.fullmatch(part) and not part.endswith((".", " ")) for part in parts):
        shown = unicodedata.normalize("NFC", path)[:80]
        raise _invalid(f"The path {shown!r} is none that a model's file may have.")
    return path


def _entry(entry: Any) -> ManifestFile:
    path, sha256, size = entry["path"], entry["sha256"], entry["size_bytes"]
    if not isinstance(path, str) or not isinstance(sha256, str) or type(size) is not int:
        raise TypeError("wrong types")
    return ManifestFile(path, sha256, size)


def _parents(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _invalid(detail: str) -> InvalidInputError:
    return InvalidInputError(
        "invalid_manifest",
        f"The list of the model's files is not valid. {detail}",
        "Name each file once, by its path within the model.",
    )
