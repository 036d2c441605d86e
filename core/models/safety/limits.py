"""How much a file may hold before anybody looks closer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the gate. Sizes in bytes.

    Attributes:
        members: entries of a zip archive.
        unpacked_bytes: all members of an archive together, or all storages of a checkpoint.
        ratio: unpacked to packed size of one member.
        header_bytes: JSON header of a safetensors file.
        metadata_bytes: its `__metadata__`.
        tensors: tensors in a file.
        rank: dimensions of a tensor.
        pickle_bytes: one pickle.
        opcodes: opcodes of all pickles of a file.
        depth: how deep values may be nested.
        nodes: values in a checkpoint, shared ones counted wherever they appear.
        expansion: bytes of all tensors of a file, views counted in full, as a multiple of the file.
        config_bytes: one JSON file of a repository.
    """

    members: int = 10_000
    unpacked_bytes: int = 16 << 30
    ratio: int = 100
    header_bytes: int = 8 << 20
    metadata_bytes: int = 64 << 10
    tensors: int = 20_000
    rank: int = 8
    pickle_bytes: int = 256 << 20
    opcodes: int = 1_500_000
    depth: int = 32
    nodes: int = 2_000_000
    expansion: int = 8
    config_bytes: int = 1 << 20


DEFAULT = Limits()
