"""Steps of loading that networks of every kind have in common."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from core.errors import UnsupportedError


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], versions: Mapping[str, Any] | None = None) -> None:
    """Loads every tensor; only the counters of batch normalisation may be missing (old files lack them).

    Raises:
        RuntimeError: keys or shapes differ.
    """
    own = module.state_dict()
    state = type(own)(tensors)
    for key, value in own.items():
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, value)
    state._metadata = versions or own._metadata  # type: ignore[attr-defined]
    module.load_state_dict(state, strict=True)


def probe(module: nn.Module, shape: tuple[int, int, int], name: str) -> Tensor:
    """What the network answers to one black image, with its graph.

    Raises:
        UnsupportedError: `unsupported_input_size`.
    """
    try:
        answer: Tensor = module(torch.zeros(1, *shape))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise UnsupportedError(
            "unsupported_input_size",
            f"{name} does not take images of {shape[1]} x {shape[2]} ({str(error)[:160]}).",
            "Send preprocess with the size the model was trained with.",
        ) from error
    return answer


def freeze_unused(module: nn.Module, answer: Tensor) -> None:
    """Freezes parameters that `answer` does not depend on, such as mask tokens: they cannot be trained by it.

    Args:
        module: the network.
        answer: what it said, with its graph.
    """
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(answer.sum(), parameters, allow_unused=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is None:
            parameter.requires_grad_(False)
