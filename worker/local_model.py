"""Models on this machine: a file, a folder, or what a Hub reference stands for, fetched into a work folder."""

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from core.domain import Stage
from core.errors import CanceledError, InvalidInputError
from core.hub.reference import HubRef
from core.hub.selection import choose
from core.hub.snapshot import Limits, mismatch, take_snapshot
from core.hub.source import FileAt, HubFile, HubSource, ShouldStop
from core.manifest import Manifest, ManifestFile
from worker.children import Halt
from worker.events import OnEvent
from worker.protocol import ModelFile
from worker.transfer import Halted, watched

_MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class LocalModel:
    """A model whose bytes are on this machine; see JobSpec.

    Attributes:
        sha256: of the one file, or of the manifest.
        filename: for display.
        path: the one file, or the manifest's.
        files: of a model of several files.
        ignored: what lies beside them and is not looked at.
    """

    sha256: str
    filename: str
    path: Path
    files: tuple[ModelFile, ...] = ()
    ignored: tuple[str, ...] = ()


def model_file(path: Path) -> LocalModel:
    """One file. Raises InvalidInputError (`not_a_file`, `file_not_readable`)."""
    return LocalModel(file_digest(path, "model"), path.name, path.resolve())


def choose_from_folder(folder: Path) -> tuple[dict[str, Path], tuple[str, ...]]:
    """The files of the model in `folder` by path, and the paths of all others. Links and hidden files do not count,
    and as in a repository of the Hub nothing in folders within it does.

    Raises:
        HubContentError: as for a repository of the Hub, see core/hub/selection.py.
        InvalidInputError: `not_a_folder`.
    """
    if not folder.is_dir():
        raise InvalidInputError("not_a_folder", f"There is no folder {folder.name}.")
    listed, folders = [], []
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or path.name.startswith("."):
            continue
        if path.is_dir():
            folders.append(f"{path.name}/")
        elif path.is_file():
            listed.append(HubFile(path.name, path.stat().st_size, None, None))
    choice = choose(listed, lambda file: (folder / file.path).read_bytes())
    return {file.path: folder / file.path for file in choice.files}, (*choice.ignored, *folders)


def model_folder(folder: Path, work_dir: Path) -> LocalModel:
    """The model in a folder; its manifest is written to `work_dir`. Raises as choose_from_folder."""
    files, ignored = choose_from_folder(folder)
    locations = {path: location.resolve() for path, location in files.items()}
    return _of_manifest(folder_manifest(files), folder.resolve().name, locations, ignored, work_dir)


def folder_manifest(files: Mapping[str, Path]) -> Manifest:
    """Of files by path, see choose_from_folder. Raises InvalidInputError (`not_a_file`, `file_not_readable`)."""
    return Manifest.of(
        ManifestFile(path, file_digest(location, "model"), location.stat().st_size) for path, location in files.items()
    )


def model_of_hub(
    source: HubSource,
    ref: HubRef,
    token: str | None,
    limits: Limits,
    work_dir: Path,
    on_event: OnEvent,
    should_stop: ShouldStop,
) -> LocalModel:
    """The model a reference stands for, fetched to `work_dir` and verified.

    Args:
        on_event: called in this thread with progress and notes.
        should_stop: asked several times a second.

    Raises:
        HubError: see core/hub/errors.py.
        CanceledError: `should_stop` said so.
    """
    on_event({"event": "stage", "stage": Stage.FETCHING.value})
    commit = source.commit(ref, token)
    shot = take_snapshot(source, ref.repo, commit, token, limits, lambda git_oids: {})
    size = shot.manifest.size_bytes
    on_event({"event": "note", "message": f"{ref.repo} at {commit}: {size / 1e6:.1f} MB"})
    locations, done = {}, 0
    for file in shot.manifest.files:
        locations[file.path] = location = work_dir / file.sha256
        if file.path in shot.small:
            location.write_bytes(shot.small[file.path])
        elif not location.exists():
            where = FileAt(ref.repo, commit, HubFile(file.path, file.size_bytes, file.sha256, None))
            _fetch(source, where, token, location, on_event, should_stop, done, size)
        done += file.size_bytes
    return _of_manifest(shot.manifest, ref.name, locations, shot.ignored, work_dir)


def file_digest(path: Path, what: str) -> str:
    """SHA-256 of a regular file. Raises InvalidInputError (`not_a_file`, `file_not_readable`)."""
    try:
        with path.open("rb") as file:
            if not stat.S_ISREG(path.stat().st_mode):
                raise InvalidInputError("not_a_file", f"The {what} {path.name} is not a regular file.")
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInputError("file_not_readable", f"The {what} {path.name} cannot be read.") from error


def _of_manifest(
    manifest: Manifest, name: str, locations: dict[str, Path], ignored: tuple[str, ...], work_dir: Path
) -> LocalModel:
    path = work_dir / _MANIFEST
    path.write_bytes(manifest.to_bytes())
    files = tuple(ModelFile(path=file.path, location=locations[file.path]) for file in manifest.files)
    return LocalModel(manifest.sha256, name, path, files, ignored)


def _fetch(
    source: HubSource,
    where: FileAt,
    token: str | None,
    location: Path,
    on_event: OnEvent,
    should_stop: ShouldStop,
    done: int,
    total: int,
) -> None:
    with _FileSink(location) as sink:

        def report() -> None:
            fraction = (done + sink.size) / total if total else 1.0
            on_event({"event": "progress", "stage": Stage.FETCHING.value, "fraction": fraction})

        def halt() -> Halt | None:
            return Halt.CANCELED if should_stop() else None

        try:
            watched(lambda stop: source.fetch(where, token, sink, stop), halt, report)
        except Halted:
            raise CanceledError from None
    if file_digest(location, "file") != where.file.sha256:
        raise mismatch(where.file.path)


class _FileSink:
    """A Sink that is a new file."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += self._file.write(data)

    def rollback(self, size: int) -> None:
        self._file.seek(size)
        self._file.truncate()
        self.size = size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
