"""Which tensors are refused, and by which name."""

import pytest
import torch
from torch import Tensor

from core.errors import InvalidInputError
from core.models.tensor_checks import check_tensors

ACCEPTED = {
    "contiguous": torch.rand(3, 4),
    "transposed": torch.rand(3, 4).T,
    "channels last": torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last),
    "a view into more": torch.rand(10, 10)[2:5, 3:7],
    "every second": torch.rand(10)[::2],
    "scalar": torch.tensor(3),
    "half": torch.rand(3).half(),
    "ones of one": torch.rand(1).expand(1, 1, 1),
    "boolean": torch.ones(3, dtype=torch.bool),
}
REFUSED = {
    "stride 0": (torch.rand(1).expand(1000), "unsafe_tensor_layout"),
    "overlap": (torch.rand(10).as_strided((4, 4), (2, 1)), "unsafe_tensor_layout"),
    "meta": (torch.empty(3, device="meta"), "unsupported_tensor_kind"),
    "sparse": (torch.eye(3).to_sparse(), "unsupported_tensor_kind"),
    "quantised": (torch.quantize_per_tensor(torch.rand(3), 0.1, 0, torch.qint8), "unsupported_tensor_kind"),
    "complex": (torch.ones(3, dtype=torch.complex64), "unsupported_dtype"),
    "float8": (torch.ones(3).to(torch.float8_e4m3fn), "unsupported_dtype"),
    "nine dimensions": (torch.ones([1] * 9), "unsupported_tensor_kind"),
    "empty": (torch.ones(0, 3), "invalid_weights_empty"),
    "nan": (torch.tensor([1.0, float("nan")]), "invalid_weights_not_finite"),
    "infinity": (torch.tensor([1.0, float("inf")]).half(), "invalid_weights_not_finite"),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: str) -> None:
    check_tensors({"w": ACCEPTED[case]}, file_bytes=10_000)


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_name_of_the_tensor(case: str) -> None:
    tensor, code = REFUSED[case]
    with pytest.raises(InvalidInputError) as caught:
        check_tensors({"fine": torch.ones(2), "layer.weight": tensor}, file_bytes=10_000)
    assert caught.value.code == code
    assert "layer.weight" in caught.value.detail


def test_negative_variance() -> None:
    with pytest.raises(InvalidInputError, match="negative variance"):
        check_tensors({"bn.running_var": torch.tensor([1.0, -0.1])}, file_bytes=10_000)
    check_tensors({"bn.running_mean": torch.tensor([1.0, -0.1])}, file_bytes=10_000)


def test_views_upon_views() -> None:
    one = torch.rand(100)
    views: dict[str, Tensor] = {f"w{i}": one for i in range(50)}
    check_tensors(views, file_bytes=6_000)
    with pytest.raises(InvalidInputError, match="views upon views"):
        check_tensors(views, file_bytes=1_000)
