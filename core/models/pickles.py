"""Reads which globals a pickle names, without running it."""

import pickle
import pickletools
import re
from typing import IO

from core.errors import InvalidInputError, UnsafeError, UnsupportedError

#: More opcodes than any real state dict needs.
_MAX_OPCODES = 1_500_000

_ALLOWED = frozenset(
    {
        "collections.OrderedDict",
        "collections.Counter",
        "collections.defaultdict",
        "builtins.dict",
        "builtins.int",
        "builtins.set",
        "__builtin__.set",
        "__builtin__.long",
        "_codecs.encode",
        "torch.Size",
        "torch.Tensor",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage",
        "torch.storage._UntypedStorage",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch._tensor._rebuild_from_type_v2",
    }
)
_ALLOWED_PATTERN = re.compile(
    r"torch\.(cuda\.)?[A-Z][A-Za-z0-9]*Storage|torch\.(bool|(u?int|float|bfloat|complex|half|double|long)\w*)"
)
#: Harmless to rebuild, but not weights this version can scan.
_UNSUPPORTED = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch.serialization._get_layout": "sparse",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta (without data)",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_wrapper_subclass": "subclassed",
    "torch._utils._rebuild_device_tensor_from_numpy": "foreign-device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "foreign-device",
}
_PLAIN = "Save plain weights: torch.save(model.state_dict(), ...), with numbers as Python floats and ints."


def check_globals(stream: IO[bytes], pickles: int) -> None:
    """Walks the opcodes of the next `pickles` pickles and refuses any global that plain weights do not need.

    Raises:
        UnsafeError: `unsafe_module_pickle` (a whole network), `unsafe_pickle_globals` (anything else).
        UnsupportedError: `unsupported_tensor_kind`.
        InvalidInputError: `invalid_checkpoint`: not a well-formed pickle.
    """
    try:
        names = _globals(stream, pickles)
    except (ValueError, EOFError, UnicodeDecodeError, IndexError, pickle.UnpicklingError) as error:
        raise InvalidInputError(
            "invalid_checkpoint",
            "The pickle inside is damaged or truncated.",
            "Compare the file's digest with the one at its source and upload it again.",
        ) from error
    foreign = sorted(name for name in names if name not in _ALLOWED and not _ALLOWED_PATTERN.fullmatch(name))
    dangerous = [name for name in foreign if name not in _UNSUPPORTED]
    if not foreign:
        return
    if not dangerous:
        kinds = ", ".join(sorted({_UNSUPPORTED[name] for name in foreign}))
        raise UnsupportedError(
            "unsupported_tensor_kind", f"The checkpoint holds {kinds} tensors.", "Save dense tensors on the CPU."
        )
    shown = ", ".join(name[:120] for name in dangerous[:8]) + (", ..." if len(dangerous) > 8 else "")
    if any(name.startswith("torch.nn.modules.") for name in dangerous):
        raise UnsafeError(
            "unsafe_module_pickle",
            f"The file is a pickled network, which is code; it was not loaded. It names {shown}.",
            _PLAIN,
        )
    raise UnsafeError("unsafe_pickle_globals", f"Loading the file would call {shown}; it was not loaded.", _PLAIN)


def _globals(stream: IO[bytes], pickles: int) -> set[str]:
    names: set[str] = set()
    count = 0
    for _ in range(pickles):
        strings: list[str] = []
        memo: dict[int, str] = {}
        for opcode, argument, _position in pickletools.genops(stream):
            count += 1
            if count > _MAX_OPCODES:
                raise UnsupportedError(
                    "unsupported_checkpoint_size", "The checkpoint holds too many objects besides its weights.", _PLAIN
                )
            match opcode.name:
                case "GLOBAL" | "INST":
                    names.add(str(argument).replace(" ", ".", 1))
                case "STACK_GLOBAL":  # module and name are the last two strings, pushed or recalled
                    names.add(".".join(strings[-2:]) if len(strings) >= 2 else "an unnamed global")
                case "EXT1" | "EXT2" | "EXT4":
                    names.add("an extension registry entry")
                case "MEMOIZE":
                    memo[len(memo)] = strings[-1] if strings else ""
                case "BINGET" | "LONG_BINGET" | "GET" if isinstance(argument, int) and argument in memo:
                    strings.append(memo[argument])
                case _ if isinstance(argument, str):
                    strings.append(argument)
                    del strings[:-4]
    return names
