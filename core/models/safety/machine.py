"""Interprets a pickle without being able to do what it says: it builds inert values and remembers foreign names.

It goes on after a name that is not on the list, with a dummy in its place, so that a refusal can name everything the
file would have called, and so that nothing that comes first can hide what comes later.
"""

from dataclasses import dataclass, field
from typing import Any

from core.models.safety.allowed import KNOWN, QUANTISED
from core.models.safety.build_plain import ArrayType, fill
from core.models.safety.build_torch import storage
from core.models.safety.inert import ArrayRef, Opaque, StateDict, StorageRef
from core.models.safety.limits import Limits
from core.models.safety.opcodes import PICKLE_PROTOCOLS, REFUSED, Opcode, PickleDamagedError, read_opcodes
from core.models.safety.vocabulary import ArgumentsError, KindError, Known, key

_MODULE_TREES = ("torch.nn.modules.", "torchvision.models.", "timm.models.", "timm.layers.", "transformers.models.")


@dataclass(slots=True, eq=False)
class Foreign:
    """Stands for a global that is not on the list, and for whatever calling it would have given.

    Attributes:
        name: as the file has it.
        called: the file calls it with arguments, or in a way that no pickler of an object does.
    """

    name: str
    called: bool = False


class TooManyOpcodesError(ValueError):
    """More objects than a checkpoint has."""


@dataclass(slots=True)
class Tape:
    """What the pickles of one file have said so far.

    Attributes:
        globals: every global named, on the list or not.
        foreign: those that are not, by name.
        storages: by key.
        problem: the first thing on the list that was used wrongly or cannot be read.
        refused: opcodes that no torch.save file holds, in the order of their first appearance.
        opcodes: how many were read.
    """

    globals: set[str] = field(default_factory=set)
    foreign: dict[str, Foreign] = field(default_factory=dict)
    storages: dict[str, StorageRef] = field(default_factory=dict)
    problem: ArgumentsError | KindError | None = None
    refused: dict[str, None] = field(default_factory=dict)
    opcodes: int = 0

    @property
    def is_module(self) -> bool:
        """Whether the foreign names are those of a pickled network and nothing else."""
        return any(name.startswith("torch.nn.") for name in self.foreign) and not any(
            entry.called and not entry.name.startswith(_MODULE_TREES) for entry in self.foreign.values()
        )


def run(data: memoryview, position: int, tape: Tape, limits: Limits) -> tuple[Any, int]:
    """Interprets the pickle at `position`; returns (value, where it ends). What it names goes to `tape`.

    Raises:
        PickleDamagedError: see opcodes.
        TooManyOpcodesError: see limits.
    """
    return _Machine(data, tape, limits).run(position)


class _Machine:
    def __init__(self, data: memoryview, tape: Tape, limits: Limits) -> None:
        self._data, self._tape, self._limits = data, tape, limits
        self._stack: list[Any] = []
        self._marked: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._budget = 0  # of items and characters that calls may copy
        self._steps = {name[4:].upper(): getattr(self, name) for name in dir(self) if name.startswith("_op_")}

    def run(self, position: int) -> tuple[Any, int]:
        start = position
        for opcode in read_opcodes(self._data, position):
            self._tape.opcodes += 1
            if self._tape.opcodes > self._limits.opcodes or opcode.position - start > self._limits.pickle_bytes:
                raise TooManyOpcodesError
            if opcode.position == start and opcode.name != "PROTO":
                self._tape.refused.setdefault("no protocol number, which means protocol 0 or 1")
            if opcode.name in REFUSED:
                self._tape.refused.setdefault(opcode.name)
            if opcode.name == "STOP":
                if len(self._stack) != 1 or self._marked:
                    raise PickleDamagedError("it ends with other than one value")
                return self._stack[0], opcode.position + 1
            try:
                self._step(opcode)
            except (IndexError, KeyError) as error:
                raise PickleDamagedError("it takes a value that is not there") from error
        raise AssertionError("read_opcodes ends with STOP or an error")

    def _step(self, opcode: Opcode) -> None:
        step = self._steps.get(opcode.name)
        if step is None:
            self._stack.append(opcode.argument)  # the opcodes whose argument is the value
            return
        try:
            step(opcode.argument)
        except (ArgumentsError, KindError) as error:
            if self._tape.problem is None:
                self._tape.problem = error
            self._stack.append(Opaque("?"))

    # --- stack and memo ---

    def _pop_mark(self) -> list[Any]:
        items = self._stack
        self._stack = self._marked.pop()
        return items

    def _op_mark(self, _: Any) -> None:
        self._marked.append(self._stack)
        self._stack = []

    def _op_binget(self, argument: int) -> None:
        self._stack.append(self._memo[argument])

    _op_long_binget = _op_binget

    def _op_binput(self, argument: int) -> None:
        self._memo[argument] = self._stack[-1]

    _op_long_binput = _op_binput

    def _op_memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._stack[-1]

    def _op_proto(self, argument: int) -> None:
        if argument not in PICKLE_PROTOCOLS:
            self._tape.refused.setdefault(f"PROTO {argument}")

    def _op_frame(self, argument: int) -> None:
        if argument > len(self._data):
            raise PickleDamagedError("a frame in it is longer than the file")

    # --- values ---

    def _op_none(self, _: Any) -> None:
        self._stack.append(None)

    def _op_newtrue(self, _: Any) -> None:
        self._stack.append(True)

    def _op_newfalse(self, _: Any) -> None:
        self._stack.append(False)

    def _op_empty_list(self, _: Any) -> None:
        self._stack.append([])

    def _op_empty_dict(self, _: Any) -> None:
        self._stack.append({})

    def _op_empty_tuple(self, _: Any) -> None:
        self._stack.append(())

    def _op_empty_set(self, _: Any) -> None:
        self._stack.append(set())

    def _op_tuple(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(tuple(items))

    def _op_tuple1(self, _: Any) -> None:
        self._short_tuple(1)

    def _op_tuple2(self, _: Any) -> None:
        self._short_tuple(2)

    def _op_tuple3(self, _: Any) -> None:
        self._short_tuple(3)

    def _short_tuple(self, length: int) -> None:
        if len(self._stack) < length:
            raise IndexError
        self._stack[-length:] = [tuple(self._stack[-length:])]

    def _op_frozenset(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(frozenset([key(item) for item in items]))

    # --- opcodes that are refused; what they do to the stack matters for the names that follow ---

    def _op_pop(self, _: Any) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._pop_mark()

    def _op_pop_mark(self, _: Any) -> None:
        self._pop_mark()

    def _op_dup(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def _op_string(self, argument: str) -> None:
        self._stack.append(argument.strip("'\""))

    def _op_get(self, argument: str) -> None:
        self._stack.append(self._memo[_number(argument)])

    def _op_put(self, argument: str) -> None:
        self._memo[_number(argument)] = self._stack[-1]

    def _op_dict(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append({})
        self._set(items)

    def _op_list(self, _: Any) -> None:
        items = self._pop_mark()
        self._stack.append(items)

    def _op_inst(self, argument: tuple[str, str]) -> None:
        self._pop_mark()
        self._find(*argument)
        self._mark_called(self._stack[-1])

    def _op_obj(self, _: Any) -> None:
        kind = self._pop_mark()[0]
        self._mark_called(kind)
        self._stack.append(kind if isinstance(kind, Foreign) else Opaque("?"))

    # --- filling containers ---

    def _op_append(self, _: Any) -> None:
        item = self._stack.pop()
        self._extend([item])

    def _op_appends(self, _: Any) -> None:
        self._extend(self._pop_mark())

    def _op_additems(self, _: Any) -> None:
        items = self._pop_mark()
        target = self._stack[-1]
        if isinstance(target, set):
            target.update([key(item) for item in items])
        else:
            self._into_other(items)

    def _extend(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(items)
        else:
            self._into_other(items)

    def _op_setitem(self, _: Any) -> None:
        value, name = self._stack.pop(), self._stack.pop()
        self._set([name, value])

    def _op_setitems(self, _: Any) -> None:
        self._set(self._pop_mark())

    def _set(self, items: list[Any]) -> None:
        if len(items) % 2:
            raise PickleDamagedError("it sets a key without a value")
        target = self._stack[-1]
        if isinstance(target, dict):
            for name, value in zip(items[::2], items[1::2], strict=True):
                target[name if type(name) is str else self._key(name)] = value
        else:
            self._into_other(items)

    def _key(self, name: Any) -> Any:
        """Problems are noted without leaving the dictionary's other items out of the stack's balance."""
        if isinstance(name, Foreign):
            return name
        try:
            return key(name)
        except ArgumentsError as error:
            self._tape.problem = self._tape.problem or error
            return Opaque("?")

    def _into_other(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Opaque):
            target.content.extend(items)
        elif not isinstance(target, Foreign):
            raise PickleDamagedError(f"it adds items to a {type(target).__name__}")

    # --- names and calls ---

    def _op_global(self, argument: tuple[str, str]) -> None:
        self._find(*argument)

    def _op_stack_global(self, _: Any) -> None:
        name, module = self._stack.pop(), self._stack.pop()
        if not (isinstance(name, str) and isinstance(module, str)):
            name, module = "global", "an unnamed"
        self._find(module, name)

    def _find(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        self._tape.globals.add(full)
        known = KNOWN.get(full)
        if known is not None:
            self._stack.append(known)
        elif QUANTISED.fullmatch(full):
            self._tape.problem = self._tape.problem or KindError("quantised")
            self._stack.append(Opaque("?"))
        else:
            self._stack.append(self._tape.foreign.setdefault(full, Foreign(full)))

    def _op_reduce(self, _: Any) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        self._mark_called(function)
        self._stack.append(self._call(function, arguments))

    def _op_newobj(self, _: Any) -> None:
        arguments, kind = self._stack.pop(), self._stack.pop()
        if arguments != ():
            self._mark_called(kind)
        self._stack.append(self._call(kind, arguments))

    def _op_newobj_ex(self, _: Any) -> None:
        keywords, arguments, kind = self._stack.pop(), self._stack.pop(), self._stack.pop()
        self._mark_called(kind)
        if not isinstance(kind, Foreign) and keywords != {}:
            raise ArgumentsError("keyword arguments")
        self._stack.append(self._call(kind, arguments))

    @staticmethod
    def _mark_called(function: Any) -> None:
        if isinstance(function, Foreign):
            function.called = True

    def _call(self, function: Any, arguments: Any) -> Any:
        if isinstance(function, Foreign):
            return function
        if not isinstance(function, Known):
            raise ArgumentsError(f"a call of a {type(function).__name__}")
        if function.build is None or not isinstance(arguments, tuple):
            raise ArgumentsError(f"{function.name} is called")
        self._budget += sum(len(item) for item in arguments if hasattr(item, "__len__"))
        if self._budget > self._limits.nodes + 2 * len(self._data):
            raise TooManyOpcodesError
        try:
            return function.build(arguments)
        except ArgumentsError as error:
            raise ArgumentsError(f"{function.name}: {error}") from error

    def _op_build(self, _: Any) -> None:
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, StateDict):
            if isinstance(state, dict):
                target.metadata = state.get("_metadata")
        elif isinstance(target, Opaque):
            target.content.append(state)
        elif isinstance(target, ArrayType):
            self._noting(target.set_state, state)
        elif isinstance(target, ArrayRef):
            self._noting(lambda value: fill(target, value), state)
        elif not isinstance(target, Foreign):
            self._tape.problem = self._tape.problem or ArgumentsError(f"a state for a {type(target).__name__}")

    def _noting(self, action: Any, state: Any) -> None:
        try:
            action(state)
        except (ArgumentsError, KindError) as error:
            self._tape.problem = self._tape.problem or error

    def _op_binpersid(self, _: Any) -> None:
        found = storage(self._stack.pop())
        if self._tape.storages.setdefault(found.key, found) != found:
            raise ArgumentsError(f"two descriptions of storage {found.key[:20]}")
        self._stack.append(found)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise PickleDamagedError("a memo entry in it has no number")
    return int(text)
