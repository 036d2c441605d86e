"""Which tensors are refused, and by which name."""

import pytest
import torch

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
    check_tensors({"w": ACCEPTED[case]})


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_name_of_the_tensor(case: str) -> None:
    tensor, code = REFUSED[case]
    with pytest.raises(InvalidInputError) as caught:
        check_tensors({"fine": torch.ones(2), "layer.weight": tensor})
    assert caught.value.code == code
    assert "layer.weight" in caught.value.detail


def test_negative_variance() -> None:
    with pytest.raises(InvalidInputError, match="negative variance"):
        check_tensors({"bn.running_var": torch.tensor([1.0, -0.1])})
    check_tensors({"bn.running_mean": torch.tensor([1.0, -0.1])})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_one_value_that_is_no_number_is_found_anywhere(value: float, dtype: torch.dtype) -> None:
    for position in (0, 1, 7, 500, 1000, 4094, 4098):
        weights = torch.randn(17 * 241).to(dtype)
        weights[min(position, len(weights) - 1)] = value
        for tensor in (weights, weights.reshape(17, 241).T):
            with pytest.raises(InvalidInputError) as caught:
                check_tensors({"w": tensor})
            assert caught.value.code == "invalid_weights_not_finite"


@pytest.mark.parametrize("name", ["", "w\0", "w\n", "w\u202e", "w" * 257])
def test_names_are_short_and_printable(name: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_tensors({name: torch.ones(2)})
    assert caught.value.code == "invalid_tensor_name"
    assert caught.value.detail.isprintable()
