"""The opcodes of a pickle, one after the other, with their arguments; nothing is built and nothing is called."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

PICKLE_PROTOCOLS = range(2, 6)
_MAX_LINE = 1_024  # of the two lines of GLOBAL
_MAX_LONG = 256  # bytes of one integer: Python turns longer ones into text in quadratic time


class Opcode(NamedTuple):
    """One step of a pickle."""

    name: str
    argument: Any
    position: int


class PickleDamagedError(ValueError):
    """Not a pickle, or cut off; the text says why."""


class PickleOpcodeError(ValueError):
    """An opcode that no torch.save file holds.

    Attributes:
        opcode: its name.
        executes: it calls what the file names, or what the process has registered.
    """

    def __init__(self, opcode: str, executes: bool) -> None:
        super().__init__(opcode)
        self.opcode, self.executes = opcode, executes


_Reader = Callable[[memoryview, int], tuple[Any, int]]


def _take(data: memoryview, position: int, length: int) -> memoryview:
    if length > len(data) - position:
        raise PickleDamagedError("the pickle is cut off")
    return data[position : position + length]


def _fixed(form: str) -> _Reader:
    size = struct.calcsize(form)

    def read(data: memoryview, position: int) -> tuple[Any, int]:
        return struct.unpack(form, _take(data, position, size))[0], position + size

    return read


def _counted(form: str, convert: Callable[[bytes], Any], limit: int | None = None) -> _Reader:
    number = _fixed(form)

    def read(data: memoryview, position: int) -> tuple[Any, int]:
        length, position = number(data, position)
        if length < 0 or (limit is not None and length > limit):
            raise PickleDamagedError(f"it announces a value of {length} bytes")
        try:
            return convert(bytes(_take(data, position, length))), position + length
        except UnicodeDecodeError as error:
            raise PickleDamagedError("a text in it is not UTF-8") from error

    return read


def _line(data: memoryview, position: int) -> tuple[str, int]:
    chunk = bytes(data[position : position + _MAX_LINE])
    end = chunk.find(b"\n")
    if end < 0:
        raise PickleDamagedError("a name in it has no end")
    try:
        return chunk[:end].decode(), position + end + 1
    except UnicodeDecodeError as error:
        raise PickleDamagedError("a name in it is not UTF-8") from error


def _two_lines(data: memoryview, position: int) -> tuple[tuple[str, str], int]:
    module, position = _line(data, position)
    name, position = _line(data, position)
    return (module, name), position


def _nothing(_: memoryview, position: int) -> tuple[None, int]:
    return None, position


def _text(raw: bytes) -> str:
    return raw.decode()


def _integer(raw: bytes) -> int:
    return int.from_bytes(raw, "little", signed=True)


def _old_text(raw: bytes) -> str:
    """A text of Python 2."""
    return raw.decode("latin-1")


#: Everything the picklers of Python 2 and 3 write with protocols 2 to 5 for values without cycles through tuples.
_READERS: dict[int, tuple[str, _Reader]] = {
    0x80: ("PROTO", _fixed("<B")),
    0x95: ("FRAME", _fixed("<Q")),
    0x2E: ("STOP", _nothing),
    0x28: ("MARK", _nothing),
    0x4E: ("NONE", _nothing),
    0x88: ("NEWTRUE", _nothing),
    0x89: ("NEWFALSE", _nothing),
    0x4A: ("BININT", _fixed("<i")),
    0x4B: ("BININT1", _fixed("<B")),
    0x4D: ("BININT2", _fixed("<H")),
    0x8A: ("LONG1", _counted("<B", _integer)),
    0x8B: ("LONG4", _counted("<i", _integer, _MAX_LONG)),
    0x47: ("BINFLOAT", _fixed(">d")),
    0x55: ("SHORT_BINSTRING", _counted("<B", _old_text)),
    0x54: ("BINSTRING", _counted("<i", _old_text)),
    0x8C: ("SHORT_BINUNICODE", _counted("<B", _text)),
    0x58: ("BINUNICODE", _counted("<I", _text)),
    0x8D: ("BINUNICODE8", _counted("<Q", _text)),
    0x43: ("SHORT_BINBYTES", _counted("<B", bytes)),
    0x42: ("BINBYTES", _counted("<I", bytes)),
    0x8E: ("BINBYTES8", _counted("<Q", bytes)),
    0x96: ("BYTEARRAY8", _counted("<Q", bytes)),
    0x5D: ("EMPTY_LIST", _nothing),
    0x7D: ("EMPTY_DICT", _nothing),
    0x29: ("EMPTY_TUPLE", _nothing),
    0x8F: ("EMPTY_SET", _nothing),
    0x61: ("APPEND", _nothing),
    0x65: ("APPENDS", _nothing),
    0x73: ("SETITEM", _nothing),
    0x75: ("SETITEMS", _nothing),
    0x90: ("ADDITEMS", _nothing),
    0x91: ("FROZENSET", _nothing),
    0x74: ("TUPLE", _nothing),
    0x85: ("TUPLE1", _nothing),
    0x86: ("TUPLE2", _nothing),
    0x87: ("TUPLE3", _nothing),
    0x68: ("BINGET", _fixed("<B")),
    0x6A: ("LONG_BINGET", _fixed("<I")),
    0x71: ("BINPUT", _fixed("<B")),
    0x72: ("LONG_BINPUT", _fixed("<I")),
    0x94: ("MEMOIZE", _nothing),
    0x63: ("GLOBAL", _two_lines),
    0x93: ("STACK_GLOBAL", _nothing),
    0x52: ("REDUCE", _nothing),
    0x81: ("NEWOBJ", _nothing),
    0x92: ("NEWOBJ_EX", _nothing),
    0x62: ("BUILD", _nothing),
    0x51: ("BINPERSID", _nothing),
}
#: Known to Python, written by no pickler for what a checkpoint holds. The first group runs something.
_EXECUTING = {0x69: "INST", 0x6F: "OBJ", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4"}
_FOREIGN = {
    0x30: "POP", 0x31: "POP_MARK", 0x32: "DUP", 0x46: "FLOAT", 0x49: "INT", 0x4C: "LONG", 0x50: "PERSID",
    0x53: "STRING", 0x56: "UNICODE", 0x64: "DICT", 0x67: "GET", 0x6C: "LIST", 0x70: "PUT", 0x97: "NEXT_BUFFER",
    0x98: "READONLY_BUFFER",
}  # fmt: skip


def read_opcodes(data: memoryview, position: int) -> Iterator[Opcode]:
    """The opcodes of the pickle that begins at `position`, up to and with its STOP.

    Raises:
        PickleDamagedError: cut off, or no pickle.
        PickleOpcodeError: an opcode outside the list.
    """
    readers, end = _READERS, len(data)
    while position < end:
        code = data[position]
        known = readers.get(code)
        if known is None:
            if code in _EXECUTING:
                raise PickleOpcodeError(_EXECUTING[code], executes=True)
            if code in _FOREIGN:
                raise PickleOpcodeError(_FOREIGN[code], executes=False)
            raise PickleDamagedError(f"byte {code:#04x} at {position} is no opcode")
        name, read = known
        argument, after = read(data, position + 1)
        yield Opcode(name, argument, position)
        if code == 0x2E:
            return
        position = after
    raise PickleDamagedError("the pickle has no end")
