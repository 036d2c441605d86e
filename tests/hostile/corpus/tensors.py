"""Tensors that cost more than they say, or are no weights (R6)."""

import io
import struct
from typing import Any

import torch

from tests.hostile.corpus.case import Case
from tests.hostile.corpus.pickles import legacy
from tests.support.pickle_builder import Call, Raw, encode, storage, tensor, torch_zip
from tests.support.zip_builder import Entry

_LAYOUT, _ARGUMENTS, _KIND = "unsafe_tensor_layout", "unsafe_pickle_arguments", "unsupported_tensor_kind"
_HOOKS = Call("collections.OrderedDict")


def saved(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _v2(*args: Any) -> bytes:
    return torch_zip({"layer.weight": Call("torch._utils._rebuild_tensor_v2", *args)})


def _nested() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


CASES = [
    Case("a million rows over 16 bytes", torch_zip({"w": tensor((1_000_000, 4), (0, 1))}), _LAYOUT, ("w", "repeats")),
    Case("2^40 elements over one", torch_zip({"w": tensor((1 << 40,), (0,))}), _LAYOUT, ("repeats",)),
    Case("overlapping rows", torch_zip({"w": tensor((2, 2), (1, 1))}), _LAYOUT, ("repeats",)),
    Case("beyond the storage", torch_zip({"w": tensor((2, 3), (3, 1))}), _LAYOUT, ("w", "reaches")),
    Case("beginning beyond the storage", torch_zip({"w": tensor((1,), (1,), 99)}), _LAYOUT, ("reaches",)),
    Case("beyond the storage, old format", legacy({"w": tensor((2, 3), (3, 1))}), _LAYOUT, ("reaches",)),
    Case("a stride of 2^61", torch_zip({"w": tensor((2, 2), (1 << 61, 1))}), _LAYOUT),
    Case("elements of 2^62 squared", torch_zip({"w": tensor((1 << 61, 1 << 61), (1 << 61, 1))}), _LAYOUT),
    Case("a negative stride", torch_zip({"w": tensor((2, 2), (-2, 1))}), _ARGUMENTS, ("strides",)),
    Case("a negative offset", torch_zip({"w": tensor((2, 2), (2, 1), -1)}), _ARGUMENTS),
    Case("a negative size", torch_zip({"w": tensor((-2, 2), (2, 1))}), _ARGUMENTS),
    Case("a size of 2^70", torch_zip({"w": tensor((1 << 70,), (1,))}), _ARGUMENTS),
    Case("fewer strides than sizes", torch_zip({"w": tensor((2, 2), (2,))}), _ARGUMENTS, ("strides",)),
    Case("sizes that are floats", _v2(storage(), 0, (2.0, 2), (2, 1), False, _HOOKS), _ARGUMENTS),
    Case("a size that is True", _v2(storage(), 0, (True, 2), (2, 1), False, _HOOKS), _ARGUMENTS),
    Case("requires_grad that is a text", _v2(storage(), 0, (2, 2), (2, 1), "yes", _HOOKS), _ARGUMENTS),
    Case("five arguments", _v2(storage(), 0, (2, 2), (2, 1), False), _ARGUMENTS, ("number of arguments",)),
    Case("a storage that is a number", _v2(3, 0, (2, 2), (2, 1), False, _HOOKS), _ARGUMENTS),
    Case("conjugated", _v2(storage(), 0, (2, 2), (2, 1), False, _HOOKS, {"conj": True}), _KIND),
    Case("a storage on meta", torch_zip({"w": tensor(device="meta")}), _KIND, ("meta",)),
    Case("a real meta tensor", saved({"w": torch.empty(3, device="meta")}), _KIND, ("meta",)),
    Case("sparse", saved({"w": torch.eye(3).to_sparse()}), _KIND, ("sparse",)),
    Case("sparse rows", saved({"w": torch.eye(3).to_sparse_csr()}), _KIND, ("sparse",)),
    Case("nested", lambda: saved({"w": _nested()}), _KIND, ("nested",)),
    Case(
        "quantised", saved({"w": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)}), _KIND, ("quantised",)
    ),
    Case("nine dimensions", torch_zip({"w": tensor((1,) * 9, (1,) * 9)}), _KIND, ("9 dimensions",)),
    Case(
        "complex weights",
        saved({"conv.weight": torch.ones(3, 3, dtype=torch.complex64)}),
        "unsupported_dtype",
        ("conv.weight", "complex64"),
    ),
    Case("eight-bit floats", saved({"w": torch.ones(3, 3).to(torch.float8_e4m3fn)}), "unsupported_dtype", ("float8",)),
    Case(
        "no elements",
        saved({"conv.weight": torch.ones(0, 3), "b": torch.ones(2, 2)}),
        "invalid_weights_empty",
        ("conv.weight",),
    ),
    Case(
        "NaN",
        saved({"conv.weight": torch.tensor([[1.0, float("nan")]])}),
        "invalid_weights_not_finite",
        ("conv.weight",),
    ),
    Case("infinity", saved({"conv.weight": torch.tensor([[1.0, float("-inf")]])}), "invalid_weights_not_finite"),
    Case("NaN in half precision", saved({"w": torch.tensor([[float("nan")]]).half()}), "invalid_weights_not_finite"),
    Case(
        "a negative variance",
        saved({"w": torch.ones(2, 2), "bn.running_var": torch.tensor([-1.0])}),
        "invalid_weights_variance",
        ("bn.running_var",),
    ),
    Case("None among the weights", saved({"a": torch.ones(2, 2), "b": None}), "invalid_checkpoint_values", ("'b'",)),
    Case("a number as a key", saved({1: torch.ones(2, 2), "b": torch.ones(2)}), "invalid_checkpoint_keys"),
    Case("a list of tensors", saved([torch.ones(2, 2)]), "unsupported_checkpoint_layout", ("list",)),
    Case("a tensor alone", saved(torch.ones(2, 2)), "unsupported_checkpoint_layout"),
    Case("a text", saved("hello"), "unsupported_checkpoint_layout", ("str",)),
    Case("an empty dictionary", saved({}), "invalid_checkpoint_empty", ("empty",)),
    Case(
        "two models", saved({"a": {"w": torch.ones(2, 2)}, "b": {"w": torch.ones(2, 2)}}), "unsupported_several_models"
    ),
    Case("a name with NUL", saved({"w\0": torch.ones(2, 2)}), "invalid_tensor_name"),
    Case("a name that turns the text around", saved({"w\u202egnp": torch.ones(2, 2)}), "invalid_tensor_name"),
    Case("a name of 100 kB", saved({"w" * 100_000: torch.ones(2, 2)}), "invalid_tensor_name"),
    Case("a storage that is missing", torch_zip({"w": tensor(key="7")}), "invalid_checkpoint", ("data/7", "missing")),
    Case(
        "a storage that is too short",
        torch_zip({"w": tensor()}, {"0": bytes(15)}),
        "invalid_checkpoint",
        ("15 bytes", "16"),
    ),
    Case(
        "a storage that is too long", torch_zip({"w": tensor()}, {"0": bytes(64)}), "invalid_checkpoint", ("64 bytes",)
    ),
    Case(
        "a storage nobody refers to",
        torch_zip({"w": tensor()}, {"0": bytes(16), "1": b"x" * 99}),
        "unsafe_archive_members",
        ("data/1",),
    ),
    Case(
        "one storage described twice",
        torch_zip({"w": tensor(), "v": tensor(kind="torch.IntStorage")}),
        _ARGUMENTS,
        ("storage 0",),
    ),
    Case(
        "a storage key that leads elsewhere",
        torch_zip({"w": tensor(key="../../etc/passwd")}),
        "invalid_checkpoint",
        ("missing",),
    ),
    Case(
        "a storage that is a view",
        torch_zip({"w": Raw(encode(("storage", Call("x.y"), "0", "cpu", 4, ("1", 0, 4)))[:-1] + b"tQ")}),
        "unsafe_pickle_globals",
    ),
    Case(
        "a storage of an unknown class",
        torch_zip({"w": tensor(kind="torch.EvilStorage")}),
        "unsafe_pickle_globals",
        ("EvilStorage",),
    ),
    Case("a storage of 2^61 elements", torch_zip({"w": tensor(elements=1 << 61)}), "invalid_checkpoint"),
    Case(
        "a thousand views of one storage",
        torch_zip({f"w{i}": tensor() for i in range(1000)}, {"0": bytes(16)}, more=[Entry("archive/data/1", b"x")]),
        "unsafe_archive_members",
    ),
    Case("views upon views", lambda: _views(), _LAYOUT, ("views upon views",)),
    Case("old format, storages that are not there", legacy({"w": tensor()}, keys=[]), "invalid_checkpoint"),
    Case("old format, storages twice", legacy({"w": tensor()}, keys=["0", "0"]), "invalid_checkpoint"),
    Case(
        "old format, another length",
        legacy({"w": tensor()}, blocks=struct.pack("<q", 5) + bytes(20)),
        "invalid_checkpoint",
        ("5 elements",),
    ),
    Case(
        "old format, a negative length",
        legacy({"w": tensor()}, blocks=struct.pack("<q", -1) + bytes(16)),
        "invalid_checkpoint",
    ),
    Case("old format, truncated", legacy({"w": tensor()})[:-3], "invalid_checkpoint", ("truncated",)),
    Case(
        "old format, something behind", legacy({"w": tensor()}) + b"PK\x03\x04", "unsafe_pickle_surplus", ("4 bytes",)
    ),
    Case("old format, big-endian", legacy({"w": tensor()}).replace(b"\x88", b"\x89", 1), "unsupported_byte_order"),
]


def _views() -> bytes:
    big = torch.arange(40_000.0)
    return saved({f"w{i}": big[i:] for i in range(1_000)})
