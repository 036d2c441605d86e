"""Which tensors may go on: dense, real, on the CPU, every element its own, all finite."""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.errors import InvalidInputError, UnsafeError, UnsupportedError

MAX_TENSORS = 20_000
MAX_RANK = 8
WEIGHT_DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
BUFFER_DTYPES = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool})
#: Views may share storage (tied weights), but the copies together stay within this many times the file.
_MAX_EXPANSION = 4


def check_tensors(tensors: Mapping[str, Tensor], file_bytes: int) -> None:
    """Raises an error that names the tensor and the reason, if any is not acceptable.

    Args:
        tensors: as read, not yet copied.
        file_bytes: size of the file they came from.
    """
    if len(tensors) > MAX_TENSORS:
        raise UnsupportedError("unsupported_checkpoint_size", f"{len(tensors)} tensors; at most {MAX_TENSORS}.")
    total = 0
    for name, tensor in tensors.items():
        shown = repr(name[:120])
        _check_kind(shown, tensor)
        _check_elements(shown, tensor)
        total += tensor.numel() * tensor.element_size()
    if total > _MAX_EXPANSION * file_bytes:
        raise UnsafeError(
            "unsafe_tensor_layout", f"Tensors of {total} bytes in a file of {file_bytes}: views upon views."
        )
    for name, tensor in tensors.items():
        _check_values(name, tensor)


def _check_kind(shown: str, tensor: Tensor) -> None:
    kind = ""
    if type(tensor) is not Tensor and type(tensor) is not torch.nn.Parameter:
        kind = type(tensor).__name__
    elif tensor.is_meta:
        kind = "meta (without data)"
    elif tensor.layout != torch.strided or tensor.is_nested:
        kind = "sparse"
    elif tensor.is_quantized:
        kind = "quantised"
    elif tensor.device.type != "cpu":
        kind = "foreign-device"
    if kind:
        raise UnsupportedError(
            "unsupported_tensor_kind", f"Tensor {shown} is {kind}.", "Save dense tensors on the CPU."
        )
    if tensor.dtype not in WEIGHT_DTYPES | BUFFER_DTYPES:
        raise UnsupportedError(
            "unsupported_dtype", f"Tensor {shown} is {tensor.dtype}.", "Convert the weights to float32 or float16."
        )
    if tensor.dim() > MAX_RANK:
        raise UnsupportedError("unsupported_tensor_kind", f"Tensor {shown} has {tensor.dim()} dimensions.")
    if tensor.numel() == 0:
        raise InvalidInputError("invalid_weights_empty", f"Tensor {shown} has no elements: {tuple(tensor.shape)}.")


def _check_elements(shown: str, tensor: Tensor) -> None:
    """Every element has its own place: strides, sorted, step over all that lies below them."""
    reach = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.shape, strict=True)):
        if size == 1:
            continue
        if stride < reach:
            raise UnsafeError(
                "unsafe_tensor_layout",
                f"Tensor {shown} of shape {tuple(tensor.shape)} repeats elements (strides {tensor.stride()}).",
                "Save contiguous tensors.",
            )
        reach += (size - 1) * stride


def _check_values(name: str, tensor: Tensor) -> None:
    if not tensor.dtype.is_floating_point:
        return
    if not bool(torch.isfinite(tensor).all()):
        raise InvalidInputError(
            "invalid_weights_not_finite",
            f"Tensor {name[:120]!r} holds NaN or infinity.",
            "The training diverged or the file is damaged: there is no behaviour to scan.",
        )
    if name.endswith("running_var") and bool((tensor < 0).any()):
        raise InvalidInputError("invalid_weights_variance", f"Tensor {name[:120]!r} holds a negative variance.")
