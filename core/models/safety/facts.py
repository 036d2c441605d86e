"""What the gate found out about a file that it lets pass."""

from dataclasses import dataclass, field
from typing import Any

from core.models.safety.content import Container


@dataclass(frozen=True, slots=True)
class Member:
    """A block of bytes in a file: a member of an archive, a storage. Offset and size in bytes."""

    name: str
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class TensorFact:
    """A tensor before it is read.

    Attributes:
        dtype: as torch names it, such as "float32".
        shape: one entry per dimension.
        offset: of the block that its elements lie in; None if they stand in the pickle (NumPy arrays).
        size_bytes: of its elements, each counted once.
    """

    dtype: str
    shape: tuple[int, ...]
    offset: int | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SecondOpinion:
    """What a scanner by other people says about the pickles of a file.

    Attributes:
        scanner: name and version.
        dangerous, suspicious: globals it calls so.
        error: it could not read the pickle.
    """

    scanner: str
    dangerous: tuple[str, ...] = ()
    suspicious: tuple[str, ...] = ()
    error: bool = False


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What the gate let pass.

    Attributes:
        container: the file format.
        size_bytes: of the file.
        members: of an archive, or the storages of an old torch file; empty for safetensors.
        tensors: by name; for torch files the dotted path at which they first appear.
        globals: what the pickles name, sorted.
        storages: torch files: where each storage lies, by key.
        content: torch files: the value saved, as inert values (see inert.py); None for safetensors.
        metadata: safetensors metadata.
        second_opinion: torch files: what another scanner says.
    """

    container: Container
    size_bytes: int
    members: tuple[Member, ...] = ()
    tensors: dict[str, TensorFact] = field(default_factory=dict)
    globals: tuple[str, ...] = ()
    storages: dict[str, Member] = field(default_factory=dict)
    content: Any = None
    metadata: dict[str, str] = field(default_factory=dict)
    second_opinion: SecondOpinion | None = None
