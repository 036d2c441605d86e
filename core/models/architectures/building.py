"""Building networks that are described by somebody else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from core.errors import UnsupportedError


def on_meta(build: Callable[[], nn.Module]) -> nn.Module:
    """What `build` returns, without memory for weights where that can be: for shapes and strict key checks."""
    try:
        with torch.device("meta"):
            return build()
    except (NotImplementedError, UnsupportedError):  # a few networks compute with tensors while they are built
        return build()


@contextmanager
def refusals(library: str, what: str) -> Iterator[None]:
    """Libraries raise whatever they like at fields that do not go together: here it gets a name.

    Raises:
        UnsupportedError: `unsupported_config`.
    """
    try:
        yield
    except (NotImplementedError, MemoryError):
        raise
    except Exception as error:
        raise UnsupportedError(
            "unsupported_config",
            f"{library} builds no {what} from this configuration ({str(error)[:200]}).",
            "Check the configuration against the one the weights were trained with.",
        ) from error
