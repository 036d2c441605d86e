"""The files of a model as they were handed over: names, and where the bytes are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a model.

    Attributes:
        path: relative POSIX path within the model; of a single file the name its owner gave it.
        location: where its bytes are on this machine; says nothing about the name.
    """

    path: str
    location: Path


@dataclass(frozen=True, slots=True)
class Source:
    """All files of a model: one checkpoint, or the files of a repository."""

    files: tuple[SourceFile, ...]

    @classmethod
    def single(cls, location: Path, filename: str) -> "Source":
        """One file, which its owner calls `filename`."""
        return cls((SourceFile(filename, location),))
