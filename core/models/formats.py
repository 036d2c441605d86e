"""Turns a checkpoint file that the gate let pass into tensors. No unpickler runs: the gate has read the pickle."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.errors import InvalidInputError
from core.models.safety import DEFAULT, Container, FileFacts, Limits, check_file
from core.models.safety.inert import ITEM_BYTES, OTHER, ArrayRef, StateDict, TensorRef
from core.models.safety.refusals import AGAIN


@dataclass(frozen=True, slots=True)
class RawCheckpoint:
    """What a file holds, before anybody looked for the weights in it.

    Attributes:
        facts: what the gate knows about the file.
        content: for torch files whatever was saved: tensors, plain values, and inert stand-ins for harmless objects;
            for safetensors a dict of tensors.
    """

    facts: FileFacts
    content: Any

    @property
    def container(self) -> Container:
        """The file format."""
        return self.facts.container

    @property
    def metadata(self) -> dict[str, str]:
        """safetensors metadata; empty otherwise."""
        return self.facts.metadata

    @property
    def file_bytes(self) -> int:
        """Size of the file."""
        return self.facts.size_bytes


def read_checkpoint(path: Path, filename: str, limits: Limits = DEFAULT) -> RawCheckpoint:
    """Reads the file at `path`, which its owner calls `filename`; tensors may be memory-mapped.

    Raises:
        InvalidInputError, UnsupportedError, UnsafeError: with the reason; see safety.gate.check_file.
    """
    facts = check_file(path, filename, limits)
    if facts.container is Container.SAFETENSORS:
        return RawCheckpoint(facts, _read_safetensors(path, facts))
    return RawCheckpoint(facts, _Tensors(path, facts).build(facts.content))


def _read_safetensors(path: Path, facts: FileFacts) -> dict[str, Tensor]:
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in facts.tensors}
    except SafetensorError as error:  # the gate is stricter: a difference between the two is a fault of the file's
        raise InvalidInputError("invalid_checkpoint", f"Not a valid safetensors file: {error}", AGAIN) from error


class _Tensors:
    """Puts tensors and plain containers in place of the gate's inert values; what is shared stays shared."""

    def __init__(self, path: Path, facts: FileFacts) -> None:
        self._facts = facts
        self._file = torch.UntypedStorage.from_file(str(path), False, facts.size_bytes)  # private, written to by nobody
        self._blocks: dict[str, torch.UntypedStorage] = {}
        self._built: dict[int, Any] = {}
        self._only_arrays = all(fact.offset is None for fact in facts.tensors.values())

    def build(self, value: Any) -> Any:
        """Recursion is as deep as the gate's limit."""
        if id(value) not in self._built:
            self._built[id(value)] = self._make(value)
        return self._built[id(value)]

    def _make(self, value: Any) -> Any:
        if isinstance(value, TensorRef):
            return self._tensor(value)
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            return type(value)(self.build(item) for item in value)
        return value

    def _mapping(self, value: dict[Any, Any]) -> Mapping[Any, Any]:
        # Arrays beside tensors, or in a file without tensors, are weights; others are somebody's statistics.
        weights = self._only_arrays or any(isinstance(item, TensorRef) for item in value.values())
        result: dict[Any, Any] = OrderedDict() if isinstance(value, StateDict) else {}
        for key, item in value.items():
            result[key] = (
                _from_array(item)
                if weights and isinstance(item, ArrayRef) and item.dtype != OTHER
                else self.build(item)
            )
        if isinstance(value, StateDict) and value.metadata is not None:
            result._metadata = value.metadata  # type: ignore[attr-defined]
        return result

    def _tensor(self, ref: TensorRef) -> Tensor:
        tensor = torch.empty(0, dtype=getattr(torch, ref.dtype))
        return tensor.set_(self._block(ref.storage.key), ref.offset, ref.shape, ref.stride)

    def _block(self, key: str) -> torch.UntypedStorage:
        if key not in self._blocks:
            member = self._facts.storages[key]
            block = self._file[member.offset : member.offset + member.size]
            assert isinstance(block, torch.UntypedStorage)
            # Old files align nothing; what computes on tensors may rely on it.
            self._blocks[key] = block if member.offset % max(ITEM_BYTES.values()) == 0 else block.clone()  # type: ignore[no-untyped-call]
        return self._blocks[key]


def _from_array(array: ArrayRef) -> Tensor:
    dtype = getattr(torch, array.dtype)
    if math.prod(array.shape) == 0:
        return torch.empty(array.shape, dtype=dtype)
    flat = torch.frombuffer(bytearray(array.data), dtype=dtype)
    return (
        flat.reshape(array.shape[::-1]).permute(*reversed(range(len(array.shape))))
        if array.fortran
        else flat.reshape(array.shape)
    )
