"""A folder that mirrors a Hub: no network at all. Two forms are understood, also side by side:

    models--org--name/{refs,snapshots}    the cache of huggingface_hub; of data sets datasets--org--name
    org/name/...                          the files of one revision, as `hf download --local-dir` leaves them;
                                          of data sets datasets/org/name

Nothing outside of the folder of a repository is read, whatever links say.
"""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from core.hub.errors import HubMissingError, HubStoppedError, HubTooLargeError, HubTruncatedError
from core.hub.reference import DEFAULT_REVISION, HubRef, is_commit, kind_and_name
from core.hub.source import MAX_LISTED, FileAt, HubFile, ShouldStop, Sink

_BLOCK = 2**20
_SHA256 = re.compile(r"[0-9a-f]{64}")
_METADATA = Path(".cache") / "huggingface" / "download"


class MirrorHub:
    """See HubSource. Tokens play no part: whoever runs the service decided what is in the folder.

    Args:
        root: the folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        #: By (path, size, modification time): digests of files that were hashed for want of a better name.
        self._digests: dict[tuple[str, int, int], str] = {}

    @property
    def endpoint(self) -> str:
        return ""

    def commit(self, ref: HubRef, token: str | None) -> str:
        cached = self._cache_folder(ref.address)
        if cached.is_dir() and (commit := _cached_commit(cached, ref.revision)):
            return commit
        plain = self._root / ref.address
        if plain.is_dir():
            commit = self._plain_commit(plain)
            if ref.revision in (commit, DEFAULT_REVISION):
                return commit
        if cached.is_dir() or plain.is_dir():
            raise _missing(f"The mirror has {ref.repo}, but not its revision {ref.revision!r}.")
        raise _missing(f"The mirror does not have {ref.repo}.")

    def files(self, repo: str, commit: str, token: str | None) -> list[HubFile]:
        base, folder = self._folders(repo, commit)
        listed = []
        for path, location in _walk(folder, base):
            target = location.resolve()
            # The cache of huggingface_hub names its blobs by SHA-256 or by Git's name.
            name = target.name if target != location.absolute() else ""
            listed.append(
                HubFile(
                    path,
                    location.stat().st_size,
                    name if _SHA256.fullmatch(name) else None,
                    name if is_commit(name) else None,
                )
            )
            if len(listed) > MAX_LISTED:
                raise HubTooLargeError("hub_model_too_large", f"The folder of {repo} has more than {MAX_LISTED} files.")
        return listed

    def read(self, where: FileAt, token: str | None) -> bytes:
        data = self._location(where).read_bytes()
        if len(data) != where.file.size_bytes:
            raise _changed(where)
        return data

    def digest(self, where: FileAt, token: str | None) -> str:
        return self._digest(self._location(where))

    def fetch(self, where: FileAt, token: str | None, sink: Sink, should_stop: ShouldStop) -> None:
        with self._location(where).open("rb") as file:
            file.seek(sink.size)
            while block := file.read(_BLOCK):
                if should_stop():
                    raise HubStoppedError
                if sink.size + len(block) > where.file.size_bytes:
                    raise _changed(where)
                sink.write(block)
        if sink.size != where.file.size_bytes:
            raise _changed(where)

    def _folders(self, repo: str, commit: str) -> tuple[Path, Path]:
        """Where links may lead to, and where the files of that commit are."""
        cached = self._cache_folder(repo)
        if (cached / "snapshots" / commit).is_dir():
            return cached, cached / "snapshots" / commit
        plain = self._root / repo
        if plain.is_dir() and self._plain_commit(plain) == commit:
            return plain, plain
        raise _missing(f"The mirror does not have {repo} at {commit} any more.")

    def _cache_folder(self, repo: str) -> Path:
        kind, name = kind_and_name(repo)
        return self._root / f"{kind}s--{name.replace('/', '--')}"

    def _location(self, where: FileAt) -> Path:
        base, folder = self._folders(where.repo, where.commit)
        location = folder / where.file.path
        if not location.is_file() or not location.resolve().is_relative_to(base.resolve()):
            raise _missing(f"The mirror does not have {where.file.path} of {where.repo}.")
        return location

    def _plain_commit(self, folder: Path) -> str:
        """The commit that the folder was downloaded from; where that is not known, a digest of all it holds."""
        if commit := _downloaded_commit(folder):
            return commit
        whole = hashlib.sha256()
        for path, location in sorted(_walk(folder, folder)):
            whole.update(f"{path}\0{self._digest(location)}\n".encode())
        return whole.hexdigest()[:40]

    def _digest(self, location: Path) -> str:
        status = location.stat()
        key = (str(location), status.st_size, status.st_mtime_ns)
        if key not in self._digests:
            with location.open("rb") as file:
                self._digests[key] = hashlib.file_digest(file, "sha256").hexdigest()
        return self._digests[key]


def _cached_commit(folder: Path, revision: str) -> str | None:
    """What the cache of huggingface_hub knows the revision as, if it has files of it."""
    commit = revision
    if not is_commit(revision):
        reference = folder / "refs" / revision
        commit = reference.read_text().strip() if reference.is_file() else ""
    return commit if is_commit(commit) and (folder / "snapshots" / commit).is_dir() else None


def _downloaded_commit(folder: Path) -> str | None:
    """What `hf download --local-dir` noted, if it noted one commit for everything."""
    notes = list((folder / _METADATA).rglob("*.metadata"))
    commits = {note.read_text().partition("\n")[0].strip() for note in notes}
    commit = commits.pop() if len(commits) == 1 else ""
    return commit if is_commit(commit) else None


def _walk(folder: Path, base: Path) -> Iterator[tuple[str, Path]]:
    """(relative path, location) of the regular files that are not hidden; links only where they stay in `base`."""
    limit = base.resolve()
    for location in folder.rglob("*"):
        relative = location.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not location.is_file():
            continue
        if location.resolve().is_relative_to(limit):
            yield relative.as_posix(), location


def _missing(detail: str) -> HubMissingError:
    return HubMissingError(
        "hub_offline_missing",
        f"{detail} This server takes models from a mirror only.",
        "Fill it: hf download org/name --revision REV, with --cache-dir or --local-dir; see docs/hub.md.",
    )


def _changed(where: FileAt) -> HubTruncatedError:
    return HubTruncatedError(
        "hub_file_truncated", f"{where.file.path} has another size in the mirror than a moment ago.", "Try again."
    )
