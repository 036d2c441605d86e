"""Builders for containers, plain values and NumPy: each checks its arguments and returns an inert value."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.models.safety.inert import ITEM_BYTES, OTHER, ArrayRef, Opaque, StateDict
from core.models.safety.vocabulary import ArgumentsError, Known, is_int_tuple, key, require


def ordered(args: tuple[Any, ...]) -> Any:
    result = StateDict()
    if args:
        require(len(args) == 1 and isinstance(args[0], list), "arguments")
        for pair in args[0]:
            require(isinstance(pair, list | tuple) and len(pair) == 2, "pairs")
            result[key(pair[0])] = pair[1]
    return result


def mapping(args: tuple[Any, ...]) -> Any:
    require(len(args) <= 1 and all(isinstance(arg, dict) for arg in args), "arguments")
    return StateDict(args[0]) if args else StateDict()


def defaultdict(args: tuple[Any, ...]) -> Any:
    factories = {"dict", "list", "set", "int", "float", "str", "tuple", "bool", "OrderedDict", "defaultdict", "Counter"}
    ok = not args or args == (None,) or (isinstance(args[0], Known) and args[0].name.rpartition(".")[2] in factories)
    require(len(args) <= 1 and ok, "factory")
    return StateDict()


def sequence(kind: type) -> Callable[[tuple[Any, ...]], Any]:
    def build(args: tuple[Any, ...]) -> Any:
        require(len(args) <= 1 and all(isinstance(arg, list | tuple | set | frozenset) for arg in args), "arguments")
        items = list(args[0]) if args else []
        if kind in (set, frozenset):
            items = [key(item) for item in items]
        return kind(items)

    return build


def deque(args: tuple[Any, ...]) -> Any:
    require(len(args) <= 2 and all(isinstance(arg, list | tuple | int | None) for arg in args), "arguments")
    return list(args[0]) if args and isinstance(args[0], list | tuple) else []


def number(kind: type) -> Callable[[tuple[Any, ...]], Any]:
    def build(args: tuple[Any, ...]) -> Any:
        require(len(args) <= 1 and all(type(arg) in (bool, int, float) for arg in args), "arguments")
        try:
            return kind(*args)
        except (ValueError, OverflowError) as error:
            raise ArgumentsError("a number out of range") from error

    return build


def text(args: tuple[Any, ...]) -> Any:
    require(len(args) == 1 and isinstance(args[0], str), "arguments")
    return args[0]


def raw_bytes(args: tuple[Any, ...]) -> Any:
    if args and isinstance(args[0], bytes) and len(args) == 1:
        return args[0]
    return encode(args) if args else b""


def encode(args: tuple[Any, ...]) -> Any:
    """`_codecs.encode`: how protocol 2 writes bytes."""
    require(len(args) == 2 and isinstance(args[0], str) and args[1] in ("latin1", "latin-1"), "arguments")
    try:
        return args[0].encode("latin-1")
    except UnicodeEncodeError as error:
        raise ArgumentsError("bytes above 255") from error


def opaque(name: str, *kinds: type) -> Callable[[tuple[Any, ...]], Any]:
    """An object of which only the class is kept; `kinds` bounds the types of its arguments."""

    def build(args: tuple[Any, ...]) -> Any:
        require(all(isinstance(arg, (*kinds, Opaque, type(None))) for arg in args), "arguments")
        return Opaque(name, list(args))

    return build


_NUMPY = {
    "f8": "float64", "f4": "float32", "f2": "float16", "i8": "int64", "i4": "int32", "i2": "int16", "i1": "int8",
    "u8": "uint64", "u4": "uint32", "u2": "uint16", "u1": "uint8", "b1": "bool", "c8": "complex64", "c16": "complex128",
}  # fmt: skip
_FORMS = {
    "float64": "<d", "float32": "<f", "float16": "<e", "int64": "<q", "int32": "<i", "int16": "<h", "int8": "<b",
    "uint64": "<Q", "uint32": "<I", "uint16": "<H", "uint8": "<B", "bool": "<?",
}  # fmt: skip


@dataclass(slots=True)
class ArrayType:
    """A NumPy dtype under construction; `code` such as "f8", `order` one of "<", "|", "=", ">"."""

    code: str
    order: str = "|"

    @property
    def torch_name(self) -> str:
        """OTHER for objects, texts, dates, records and foreign byte order: nobody computes with those here."""
        return OTHER if self.order == ">" else _NUMPY.get(self.code, OTHER)

    def set_state(self, state: Any) -> None:
        require(isinstance(state, tuple) and len(state) in (8, 9) and isinstance(state[1], str), "a dtype's state")
        if any(item is not None for item in state[2:5]):
            self.code = "V"
        self.order = state[1]


def fill(array: ArrayRef, state: Any) -> None:
    """Gives an array that `_reconstruct` made its state: (version, shape, dtype, Fortran order, bytes).

    Raises:
        ArgumentsError: not such a state.
    """
    require(isinstance(state, tuple) and len(state) == 5 and isinstance(state[3], bool), "an array's state")
    full = _array(*state[1:])
    array.dtype, array.shape, array.fortran, array.data = full.dtype, full.shape, full.fortran, full.data


def _array(shape: Any, kind: Any, fortran: bool, data: Any) -> ArrayRef:
    require(is_int_tuple(shape) and isinstance(kind, ArrayType), "an array's shape or type")
    dtype = kind.torch_name
    if dtype == OTHER:
        return ArrayRef(OTHER, shape, fortran, b"")
    require(isinstance(data, bytes), "an array's data")
    expected = ITEM_BYTES[dtype]
    for length in shape:
        expected *= length
    require(expected == len(data), "as many bytes as the shape asks for")
    return ArrayRef(dtype, shape, fortran, data)


def dtype(args: tuple[Any, ...]) -> Any:
    require(1 <= len(args) <= 3 and isinstance(args[0], str) and len(args[0]) <= 16, "arguments")
    return ArrayType(args[0].lstrip("<>|="), ">" if args[0].startswith(">") else "|")


def scalar(args: tuple[Any, ...]) -> Any:
    """A NumPy number becomes a Python number."""
    require(len(args) == 2 and isinstance(args[0], ArrayType), "arguments")
    array = _array((), args[0], False, args[1])
    if array.dtype not in _FORMS:
        return Opaque("numpy.generic", [args[0].code])
    return struct.unpack(_FORMS[array.dtype], array.data)[0]


def reconstruct(args: tuple[Any, ...]) -> Any:
    ok = len(args) == 3 and isinstance(args[0], Known) and args[0].name == "numpy.ndarray" and args[2] in (b"b", "b")
    require(ok and args[1] == (0,), "arguments")
    return ArrayRef("", (), False, b"")


def frombuffer(args: tuple[Any, ...]) -> Any:
    require(len(args) == 4 and args[3] in ("C", "F"), "arguments")
    return _array(args[2], args[1], args[3] == "F", args[0])
