"""The globals that a checkpoint may name, and what becomes of them. Whatever is not here is refused.

Nothing is looked up by a name of the file's choosing, except in these tables.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from core.models.safety import build_plain, build_torch
from core.models.safety.inert import ITEM_BYTES, STORAGE_DTYPES, Opaque
from core.models.safety.vocabulary import Known, require

_RANDOM = "numpy.random._pickle."
#: Classes whose objects hold plain values; they are read and forgotten.
_PLAIN_OBJECTS: dict[str, tuple[type, ...]] = {
    "argparse.Namespace": (),
    "types.SimpleNamespace": (),
    "datetime.datetime": (bytes, str, int),
    "datetime.date": (bytes, str, int),
    "datetime.time": (bytes, str, int),
    "datetime.timedelta": (int,),
    "datetime.timezone": (str,),
    "decimal.Decimal": (str,),
    "fractions.Fraction": (str, int),
    "uuid.UUID": (),
    "builtins.complex": (int, float),
    "builtins.slice": (int,),
    "builtins.range": (int,),
    "builtins.xrange": (int,),
    "builtins.object": (),
    f"{_RANDOM}__randomstate_ctor": (str, Known),
    f"{_RANDOM}__generator_ctor": (str, Known),
    f"{_RANDOM}__bit_generator_ctor": (str, Known),
    "numpy.random._mt19937.MT19937": (),
    "numpy.random._pcg64.PCG64": (),
}
for _path in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path", "PurePath"):
    _PLAIN_OBJECTS[f"pathlib.{_path}"] = _PLAIN_OBJECTS[f"pathlib._local.{_path}"] = (str,)
#: Dictionaries with attributes, as training frameworks keep their settings in.
_DICTIONARIES = (
    "lightning.fabric.utilities.data.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict", "lightning.pytorch.utilities.parsing.AttributeDict",
    "easydict.EasyDict", "yacs.config.CfgNode", "addict.addict.Dict", "munch.Munch",
)  # fmt: skip
#: Enumerations: (value) -> member.
ENUMS = frozenset(
    {
        "torchvision.transforms.functional.InterpolationMode", "PIL.Image.Resampling", "PIL.Image.Transpose",
        "http.HTTPStatus",
        *(
            f"{top}.trainer.states.{name}"
            for top in ("pytorch_lightning", "lightning.pytorch")
            for name in ("TrainerFn", "TrainerStatus", "RunningStage")
        ),
    }
)  # fmt: skip
#: Named, never called: types and constants, and classes that old Lightning files use as keys.
_NAMED = (
    *(
        f"{top}.callbacks.{name}"
        for top in ("pytorch_lightning", "lightning.pytorch")
        for name in (
            "model_checkpoint.ModelCheckpoint", "early_stopping.EarlyStopping", "lr_monitor.LearningRateMonitor",
            "stochastic_weight_avg.StochasticWeightAveraging", "timer.Timer", "progress.tqdm_progress.TQDMProgressBar",
        )
    ),
    *(
        f"numpy.{name}"
        for name in (
            "float64", "float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool_", "bool", "str_",
        )
    ),
    "builtins.Ellipsis", "numpy.ndarray", "torch.Tensor", "torch.nn.parameter.Parameter", "torch.strided",
    "torch.channels_last", "torch.contiguous_format", "torch.preserve_format",
)  # fmt: skip
_UNREADABLE_KINDS = {
    "torch._utils._rebuild_qtensor": "quantised",
    "torch._utils._rebuild_sparse_tensor": "sparse",
    "torch._utils._rebuild_sparse_csr_tensor": "sparse",
    "torch._utils._rebuild_meta_tensor_no_storage": "meta (without data)",
    "torch._utils._rebuild_nested_tensor": "nested",
    "torch._utils._rebuild_wrapper_subclass": "subclassed",
    "torch._utils._rebuild_device_tensor_from_numpy": "on a foreign device",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "on a foreign device",
}


def _member(args: tuple[Any, ...]) -> Any:
    """`getattr(Class, "NAME")`, as enumerations write themselves, and only for those on the list."""
    ok = len(args) == 2 and isinstance(args[0], Known) and args[0].name in ENUMS and isinstance(args[1], str)
    require(ok, "getattr of something that is no enumeration on the list")
    return Opaque(args[0].name, [args[1]])


def _table() -> Mapping[str, Known]:
    builders: dict[str, Callable[[tuple[Any, ...]], Any] | None] = {
        "collections.OrderedDict": build_plain.ordered,
        "collections.Counter": build_plain.mapping,
        "collections.defaultdict": build_plain.defaultdict,
        "collections.deque": build_plain.deque,
        "builtins.dict": build_plain.mapping,
        "builtins.list": build_plain.sequence(list),
        "builtins.tuple": build_plain.sequence(tuple),
        "builtins.set": build_plain.sequence(set),
        "builtins.frozenset": build_plain.sequence(frozenset),
        "builtins.int": build_plain.number(int),
        "builtins.float": build_plain.number(float),
        "builtins.bool": build_plain.number(bool),
        "builtins.str": build_plain.text,
        "builtins.bytes": build_plain.raw_bytes,
        "builtins.bytearray": build_plain.raw_bytes,
        "builtins.getattr": _member,
        "_codecs.encode": build_plain.encode,
        "torch.Size": build_torch.torch_size,
        "torch.device": build_torch.torch_device,
        "torch.torch_version.TorchVersion": build_plain.text,
        "torch._utils._rebuild_tensor": build_torch.rebuild_tensor,
        "torch._utils._rebuild_tensor_v2": build_torch.rebuild_tensor_v2,
        "torch._utils._rebuild_tensor_v3": build_torch.rebuild_tensor_v3,
        "torch._utils._rebuild_parameter": build_torch.rebuild_parameter,
        "torch._utils._rebuild_parameter_with_state": build_torch.rebuild_parameter,
        "torch._tensor._rebuild_from_type_v2": build_torch.rebuild_from_type,
        "torch.serialization._get_layout": build_torch.layout,
        "numpy.dtype": build_plain.dtype,
    }
    for core in ("numpy.core", "numpy._core"):
        builders[f"{core}.multiarray.scalar"] = build_plain.scalar
        builders[f"{core}.multiarray._reconstruct"] = build_plain.reconstruct
        builders[f"{core}.numeric._frombuffer"] = build_plain.frombuffer
    builders |= {name: build_plain.opaque(name, *kinds) for name, kinds in _PLAIN_OBJECTS.items()}
    builders |= dict.fromkeys(_DICTIONARIES, build_plain.mapping)
    builders |= {name: build_plain.opaque(name, str, int) for name in ENUMS}
    builders |= {name: build_torch.unreadable(kind) for name, kind in _UNREADABLE_KINDS.items()}
    builders |= dict.fromkeys(_NAMED)
    builders |= {f"torch.{name}": None for name in (*STORAGE_DTYPES, *ITEM_BYTES)}
    builders |= {f"torch.storage.{name}": None for name in ("UntypedStorage", "TypedStorage", "_UntypedStorage")}
    aliases = {"int": "long", "str": "unicode"}
    for name in [name for name in builders if name.startswith("builtins.")]:  # as Python 2 calls them
        short = name.removeprefix("builtins.")
        builders[f"__builtin__.{short}"] = builders[name]
        if short in aliases:
            builders[f"__builtin__.{aliases[short]}"] = builders[name]
    return {name: Known(name, build) for name, build in builders.items()}


KNOWN = _table()
#: Types without a storage class of their own that only unreadable tensors need.
QUANTISED = re.compile(r"torch\.(Q\w+Storage|qu?int\w+|per_(tensor|channel)_\w+)")
