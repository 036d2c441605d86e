"""Builders for what torch.save writes: tensors, parameters, storages."""

from collections.abc import Callable
from typing import Any

from core.models.safety.inert import ITEM_BYTES, STORAGE_DTYPES, Opaque, StorageRef, TensorRef
from core.models.safety.vocabulary import KindError, Known, is_int, is_int_tuple, require


def torch_size(args: tuple[Any, ...]) -> Any:
    require(len(args) == 1 and is_int_tuple(args[0]), "arguments")
    return args[0]


def torch_device(args: tuple[Any, ...]) -> Any:
    ok = len(args) in (1, 2) and isinstance(args[0], str) and all(is_int(arg, -1, 4096) for arg in args[1:])
    require(ok, "arguments")
    return Opaque("torch.device", list(args))


def layout(args: tuple[Any, ...]) -> Any:
    """How a tensor lies in memory; named beside weights, too."""
    if args != ("torch.strided",):
        raise KindError("sparse")
    return Opaque("torch.layout", list(args))


def _tensor(args: tuple[Any, ...], dtype: str | None = None) -> TensorRef:
    storage, offset, shape, stride = args[:4]
    require(isinstance(storage, StorageRef), "a tensor without a storage")
    require(is_int(offset) and is_int_tuple(shape) and is_int_tuple(stride), "offset, shape or strides")
    require(len(shape) == len(stride), "as many strides as dimensions")
    return TensorRef(storage, dtype or storage.dtype, offset, shape, stride)


def rebuild_tensor(args: tuple[Any, ...]) -> Any:
    require(len(args) == 4, "the number of arguments")
    return _tensor(args)


def rebuild_tensor_v2(args: tuple[Any, ...]) -> Any:
    require(len(args) in (6, 7), "the number of arguments")
    require(isinstance(args[4], bool), "requires_grad")
    _no_hooks(args[5])
    _no_metadata(args[6:])
    return _tensor(args)


def rebuild_tensor_v3(args: tuple[Any, ...]) -> Any:
    require(len(args) in (7, 8), "the number of arguments")
    require(isinstance(args[4], bool), "requires_grad")
    _no_hooks(args[5])
    _no_metadata(args[7:])
    dtype = args[6]
    require(isinstance(dtype, Known) and dtype.name.removeprefix("torch.") in ITEM_BYTES, "the type")
    return _tensor(args, dtype.name.removeprefix("torch."))


def rebuild_parameter(args: tuple[Any, ...]) -> Any:
    require(len(args) in (3, 4), "the number of arguments")
    require(isinstance(args[0], TensorRef) and isinstance(args[1], bool), "a parameter without a tensor")
    _no_hooks(args[2])
    return args[0]


def rebuild_from_type(args: tuple[Any, ...]) -> Any:
    """A tensor with Python attributes, which are dropped: (function, class, arguments, attributes)."""
    require(len(args) == 4 and isinstance(args[2], tuple), "arguments")
    function, kind = args[0], args[1]
    require(isinstance(function, Known) and function.name.startswith("torch._utils._rebuild_"), "the function")
    require(isinstance(kind, Known), "the class")
    if kind.name not in ("torch.Tensor", "torch.nn.parameter.Parameter"):
        raise KindError("subclassed")
    assert function.build is not None
    return function.build(args[2])


def _no_hooks(value: Any) -> None:
    require(value is None or (isinstance(value, dict) and not value), "hooks, which are code")


def _no_metadata(values: tuple[Any, ...]) -> None:
    if any(values):
        raise KindError("conjugated or otherwise not plain")


def unreadable(text: str) -> Callable[[tuple[Any, ...]], Any]:
    def build(_: tuple[Any, ...]) -> Any:
        raise KindError(text)

    return build


def storage(persistent: Any) -> StorageRef:
    """The storage that a persistent id of torch.save means: ("storage", class, key, device, elements[, view]).

    Raises:
        ArgumentsError, KindError: not one, or none that can be read.
    """
    ok = isinstance(persistent, tuple) and len(persistent) in (5, 6) and persistent[0] == "storage"
    require(ok, "a persistent id that is no storage")
    _, kind, name, device, elements = persistent[:5]
    require(len(persistent) == 5 or persistent[5] is None, "a storage that is a view of another one")
    require(isinstance(kind, Known) and kind.name.startswith("torch."), "a storage without a class")
    dtype = STORAGE_DTYPES.get(kind.name.rpartition(".")[2])
    require(dtype is not None, "an unknown class of storage")
    require(isinstance(name, str) and isinstance(device, str) and is_int(elements), "a storage's description")
    if device.startswith("meta"):
        raise KindError("meta (without data)")
    assert dtype is not None
    return StorageRef(name, dtype, elements, device)
