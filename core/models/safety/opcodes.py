"""The opcodes of a pickle, one after the other, with their arguments; nothing is built and nothing is called."""

import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

PICKLE_PROTOCOLS = range(2, 6)
_STOP = 0x2E
_FIRST_LOOK, _MAX_LINE = 1 << 10, 1 << 19  # for the end of a line
_MAX_LONG = 256  # bytes of one integer: Python turns longer ones into text in quadratic time


class Opcode(NamedTuple):
    """One step of a pickle."""

    name: str
    argument: Any
    position: int


class PickleDamagedError(ValueError):
    """Not a pickle, or cut off; the text says why."""


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
    size = _FIRST_LOOK
    while True:
        chunk = bytes(data[position : position + size])
        end = chunk.find(b"\n")
        if end >= 0:
            break
        if size >= _MAX_LINE or len(chunk) < size:
            raise PickleDamagedError("a line in it has no end")
        size *= 8
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
#: Known to Python, but written by no pickler for what a checkpoint holds: walked, so that a refusal can name what they
#: hide, and refused. The first group runs something.
EXECUTING = frozenset({"INST", "OBJ", "EXT1", "EXT2", "EXT4"})
_REFUSED: dict[int, tuple[str, _Reader]] = {
    0x69: ("INST", _two_lines),
    0x6F: ("OBJ", _nothing),
    0x82: ("EXT1", _fixed("<B")),
    0x83: ("EXT2", _fixed("<H")),
    0x84: ("EXT4", _fixed("<i")),
    0x30: ("POP", _nothing),
    0x31: ("POP_MARK", _nothing),
    0x32: ("DUP", _nothing),
    0x46: ("FLOAT", _line),
    0x49: ("INT", _line),
    0x4C: ("LONG", _line),
    0x50: ("PERSID", _line),
    0x53: ("STRING", _line),
    0x56: ("UNICODE", _line),
    0x64: ("DICT", _nothing),
    0x67: ("GET", _line),
    0x6C: ("LIST", _nothing),
    0x70: ("PUT", _line),
    0x97: ("NEXT_BUFFER", _nothing),
    0x98: ("READONLY_BUFFER", _nothing),
}
REFUSED = frozenset(name for name, _ in _REFUSED.values())
_READERS |= _REFUSED


def read_opcodes(data: memoryview, position: int) -> Iterator[Opcode]:
    """The opcodes of the pickle that begins at `position`, up to and with its STOP; those of REFUSED among them.

    Raises:
        PickleDamagedError: cut off, or no pickle.
    """
    readers, end = _READERS, len(data)
    while position < end:
        code = data[position]
        known = readers.get(code)
        if known is None:
            raise PickleDamagedError(f"byte {code:#04x} at {position} is no opcode")
        name, read = known
        argument, after = read(data, position + 1)
        yield Opcode(name, argument, position)
        if code == _STOP:
            return
        position = after
    raise PickleDamagedError("the pickle has no end")
