"""Which tensors may go on as weights: dense, real, on the CPU, not empty, all finite.

How their elements lie in the file is the business of the gate (core/models/safety), which every file has passed.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from core.errors import InvalidInputError, UnsupportedError
from core.models.safety import DEFAULT
from core.models.safety.refusals import shown

MAX_TENSORS = DEFAULT.tensors
_MAX_NAME = 256
WEIGHT_DTYPES = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
BUFFER_DTYPES = frozenset({torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool})
_DENSE = "Save dense tensors on the CPU."
_DIVERGED = "The training diverged or the file is damaged: there is no behaviour to scan."


def check_tensors(tensors: Mapping[str, Tensor]) -> None:
    """Raises an error that names the tensor and the reason, if any is not acceptable.

    Args:
        tensors: as read, not yet copied.

    Raises:
        InvalidInputError: `invalid_tensor_name`, `invalid_weights_empty`, `invalid_weights_not_finite`,
            `invalid_weights_variance`.
        UnsupportedError: `unsupported_checkpoint_size`, `unsupported_tensor_kind`, `unsupported_dtype`.
    """
    if len(tensors) > MAX_TENSORS:
        raise UnsupportedError("unsupported_checkpoint_size", f"{len(tensors)} tensors; at most {MAX_TENSORS}.", _DENSE)
    for name, tensor in tensors.items():
        _check_name(name)
        _check_kind(repr(shown(name)), tensor)
    for name, tensor in tensors.items():
        _check_values(name, tensor)


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        raise InvalidInputError(
            "invalid_tensor_name",
            f"The tensor name {shown(name)!r} is empty, longer than {_MAX_NAME}, or holds control characters.",
            "Save the weights under the names that the network gives them.",
        )


def _check_kind(name: str, tensor: Tensor) -> None:
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
        raise UnsupportedError("unsupported_tensor_kind", f"Tensor {name} is {kind}.", _DENSE)
    if tensor.dtype not in WEIGHT_DTYPES | BUFFER_DTYPES:
        raise UnsupportedError(
            "unsupported_dtype", f"Tensor {name} is {tensor.dtype}.", "Convert the weights to float32 or float16."
        )
    if tensor.dim() > DEFAULT.rank:
        raise UnsupportedError("unsupported_tensor_kind", f"Tensor {name} has {tensor.dim()} dimensions.", _DENSE)
    if tensor.numel() == 0:
        raise InvalidInputError(
            "invalid_weights_empty",
            f"Tensor {name} has no elements: {tuple(tensor.shape)}.",
            "Save the weights of a whole network.",
        )


def _check_values(name: str, tensor: Tensor) -> None:
    if not tensor.dtype.is_floating_point:
        return
    # One pass without a copy; a single NaN anywhere makes both ends NaN.
    low, high = torch.aminmax(tensor)
    if not bool(torch.isfinite(low) & torch.isfinite(high)):
        raise InvalidInputError(
            "invalid_weights_not_finite", f"Tensor {shown(name)!r} holds NaN or infinity.", _DIVERGED
        )
    if name.endswith("running_var") and bool(low < 0):
        raise InvalidInputError(
            "invalid_weights_variance", f"Tensor {shown(name)!r} holds a negative variance.", _DIVERGED
        )
