"""The pickles of a file: walked, interpreted into inert values, and refused with everything they would have called."""

from typing import Any

from core.models.safety.limits import Limits
from core.models.safety.machine import Tape, TooManyOpcodesError, run
from core.models.safety.opcodes import EXECUTING, PickleDamagedError
from core.models.safety.refusals import AGAIN, Subject, shown
from core.models.safety.vocabulary import KindError

_PLAIN = "Save plain weights: torch.save(model.state_dict(), ...), with numbers as Python floats and ints."
_SHOWN_NAMES = 8


def read_pickles(
    data: memoryview, count: int, tape: Tape, subject: Subject, limits: Limits, member: str | None = None
) -> tuple[list[Any], int]:
    """The values of the `count` pickles at the beginning of `data`, and where the last one ends.

    Raises:
        UnsafeError: `unsafe_pickle_globals` (names that are not on the list), `unsafe_pickle_arguments`,
            `unsafe_pickle_opcodes`.
        UnsupportedError: `unsupported_module_pickle` (a whole network), `unsupported_tensor_kind`,
            `unsupported_pickle_protocol`, `unsupported_checkpoint_size`.
        InvalidInputError: `invalid_checkpoint`: damaged.
    """
    values: list[Any] = []
    position = 0
    try:
        for _ in range(count):
            value, position = run(data, position, tape, limits)
            values.append(value)
    except PickleDamagedError as error:
        _refuse_names(tape, subject, member, broken=True)
        raise subject.invalid("invalid_checkpoint", f"The pickle is damaged: {error}.", AGAIN, member) from error
    except TooManyOpcodesError as error:
        _refuse_names(tape, subject, member, broken=True)
        raise subject.unsupported(
            "unsupported_checkpoint_size", "The checkpoint holds too many objects besides its weights.", _PLAIN, member
        ) from error
    _refuse_names(tape, subject, member, broken=False)
    if tape.refused:
        raise subject.unsupported(
            "unsupported_pickle_protocol",
            f"The pickle holds {shown(', '.join(tape.refused))}, which torch.save does not write.",
            "Save it again with torch.save and its usual protocol.",
            member,
        )
    if isinstance(tape.problem, KindError):
        raise subject.unsupported(
            "unsupported_tensor_kind",
            f"The checkpoint holds a tensor that is {tape.problem}.",
            "Save dense tensors of numbers on the CPU.",
            member,
        )
    if tape.problem is not None:
        raise subject.unsafe(
            "unsafe_pickle_arguments",
            f"The pickle uses a harmless name in a strange way: {tape.problem}.",
            _PLAIN,
            member,
        )
    return values, position


def _refuse_names(tape: Tape, subject: Subject, member: str | None, *, broken: bool) -> None:
    """Whatever else is wrong: what the file would call comes first, it would have been called before the rest."""
    names = tape.foreign
    executing = ", ".join(name for name in tape.refused if name in EXECUTING)
    if not names:
        if executing:
            raise subject.unsafe(
                "unsafe_pickle_opcodes", f"The pickle holds {executing}, which runs code.", _PLAIN, member
            )
        return
    listed = ", ".join(shown(name) for name in sorted(names)[:_SHOWN_NAMES])
    if len(names) > _SHOWN_NAMES:
        listed += f" and {len(names) - _SHOWN_NAMES} more"
    if all(name.startswith(("__torch__.", "torch.jit._pickle.")) for name in names):
        raise subject.unsupported(
            "unsupported_torchscript", f"This is TorchScript, which is code: {listed}.", member=member
        )
    if tape.is_module and not broken and not executing:
        raise subject.unsupported(
            "unsupported_module_pickle",
            f"The file is a pickled network, which is code; it was not loaded. It names {listed}.",
            _PLAIN,
            member,
        )
    raise subject.unsafe(
        "unsafe_pickle_globals", f"Loading the file would call {listed}; it was not loaded.", _PLAIN, member
    )
