"""What a checkpoint's pickle describes, as values that can do nothing: no class of the file's choosing exists here."""

import math
from dataclasses import dataclass, field
from typing import Any

#: Bytes per element of what torch calls its types.
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "int16": 2, "int8": 1,
    "uint8": 1, "bool": 1, "complex32": 4, "complex64": 8, "complex128": 16, "uint16": 2, "uint32": 4, "uint64": 8,
    "float8_e4m3fn": 1, "float8_e5m2": 1, "float8_e4m3fnuz": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
#: The dtype of each storage class; an untyped storage counts bytes.
STORAGE_DTYPES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8",
    "ByteStorage": "uint8", "BoolStorage": "bool", "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128", "UntypedStorage": "uint8",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class StorageRef:
    """A block of numbers in the file.

    Attributes:
        key: its name in the file.
        dtype: element type as torch names it.
        elements: how many.
        device: where it was when it was saved, such as "cuda:0".
    """

    key: str
    dtype: str
    elements: int
    device: str

    @property
    def size_bytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]


@dataclass(frozen=True, slots=True, eq=False)
class TensorRef:
    """A tensor: how to read its elements out of a storage.

    Attributes:
        storage: where they lie.
        dtype: element type as torch names it; the storage's own, but for untyped storages.
        offset: of the first element, in elements.
        shape, stride: in elements, one entry per dimension.
    """

    storage: StorageRef
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.elements * ITEM_BYTES[self.dtype]


#: The dtype of arrays of texts, dates, records or objects, whose elements are not kept.
OTHER = "other"


@dataclass(slots=True, eq=False)
class ArrayRef:
    """A NumPy array, whose bytes stand in the pickle.

    Attributes:
        dtype: element type as torch names it, or OTHER; empty as long as the pickle has not said.
        shape: one entry per dimension.
        fortran: the first index runs fastest.
        data: the elements, little-endian.
    """

    dtype: str
    shape: tuple[int, ...]
    fortran: bool
    data: bytes


@dataclass(slots=True, eq=False)
class Opaque:
    """An object of a harmless class, which nobody needs: only its class and what was put into it are known.

    Attributes:
        kind: qualified name of the class.
        content: arguments, state and items, for whoever walks the tree.
    """

    kind: str
    content: list[Any] = field(default_factory=list)


class StateDict(dict[Any, Any]):
    """An ordered dictionary with torch's `_metadata` (module versions) beside it; None if there is none."""

    metadata: Any = None
