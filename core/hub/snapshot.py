"""What a commit holds, before any weights are fetched: the manifest of its model, and the small files themselves."""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from core.hub.errors import HubBrokenError, HubContentError, HubTooLargeError
from core.hub.selection import choose
from core.hub.source import SMALL_BYTES, FileAt, HubFile, HubSource
from core.manifest import Manifest, ManifestFile

#: Names of ignored files that are kept for people.
MAX_IGNORED = 200

#: (sha256, size in bytes) of files the organisation has already, by Git's names for them.
Known = Callable[[Collection[str]], Mapping[str, tuple[str, int]]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a model may be."""

    file_bytes: int
    model_bytes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The model in a repository at one commit.

    Attributes:
        small: bytes of files that had to be read to learn their digests, by path.
        git_oids: Git's names of those, where the repository gave the right ones.
        ignored: paths of the repository that are not part of the model, at most MAX_IGNORED.
    """

    manifest: Manifest
    small: Mapping[str, bytes]
    git_oids: Mapping[str, str]
    ignored: tuple[str, ...]


def take_snapshot(
    source: HubSource, repo: str, commit: str, token: str | None, limits: Limits, known: Known
) -> Snapshot:
    """List, choose, check sizes, and find out every digest. Blocking.

    Raises:
        HubContentError: see selection.choose; `hub_digest_unknown`.
        HubTooLargeError: `hub_file_too_large`, `hub_model_too_large`.
        HubError: whatever else `source` has to say.
    """
    small: dict[str, bytes] = {}

    def read(file: HubFile) -> bytes:
        if file.path not in small:
            small[file.path] = source.read(FileAt(repo, commit, file), token)
        return small[file.path]

    choice = choose(source.files(repo, commit, token), read)
    _check_sizes(choice.files, limits)
    seen = known([file.git_oid for file in choice.files if file.git_oid is not None])
    files, git_oids = [], {}
    for file in choice.files:
        sha256 = _digest(source, FileAt(repo, commit, file), token, seen, read)
        files.append(ManifestFile(file.path, sha256, file.size_bytes))
        if file.path in small:
            if file.sha256 is not None and file.sha256 != hashlib.sha256(small[file.path]).hexdigest():
                raise mismatch(file.path)
            if file.git_oid == git_name(small[file.path]):
                git_oids[file.path] = file.git_oid
        elif file.sha256 is None and file.git_oid is not None:
            git_oids[file.path] = file.git_oid
    chosen = {file.path for file in files}
    return Snapshot(
        Manifest.of(files),
        {path: data for path, data in small.items() if path in chosen},
        git_oids,
        choice.ignored[:MAX_IGNORED],
    )


def git_name(data: bytes) -> str:
    """What Git calls these bytes."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


def mismatch(path: str) -> HubBrokenError:
    """The problem for bytes that are not those the repository lists."""
    return HubBrokenError(
        "hub_digest_mismatch",
        f"The bytes of {path} do not have the SHA-256 that the repository lists.",
        "The file was changed or damaged on its way. Ask its owner, or try another mirror.",
    )


def _digest(
    source: HubSource,
    where: FileAt,
    token: str | None,
    seen: Mapping[str, tuple[str, int]],
    read: Callable[[HubFile], bytes],
) -> str:
    file = where.file
    if file.sha256 is not None:
        return file.sha256
    if file.git_oid is not None and (match := seen.get(file.git_oid)) and match[1] == file.size_bytes:
        return match[0]
    if file.size_bytes <= SMALL_BYTES:
        return hashlib.sha256(read(file)).hexdigest()
    sha256 = source.digest(where, token)
    if sha256 is None:
        raise HubContentError(
            "hub_digest_unknown",
            f"The repository does not say the SHA-256 of {file.path}, which is too large to be looked at first.",
            "Large files belong into large file storage (LFS). Or download the files and upload them.",
        )
    return sha256


def _check_sizes(files: Collection[HubFile], limits: Limits) -> None:
    for file in files:
        if file.size_bytes > limits.file_bytes:
            raise HubTooLargeError(
                "hub_file_too_large",
                f"{file.path} has {file.size_bytes} bytes; the limit is {limits.file_bytes}.",
                "The limit is the setting ASSAY_MAX_UPLOAD_BYTES of the server.",
            )
    total = sum(file.size_bytes for file in files)
    if total > limits.model_bytes:
        raise HubTooLargeError(
            "hub_model_too_large",
            f"The model's files have {total} bytes together; the limit is {limits.model_bytes}.",
            "The limit is the setting ASSAY_HUB_MAX_MODEL_BYTES of the server.",
        )
