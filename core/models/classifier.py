"""An image classifier as a SuspectModel."""

import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax

from core.config import Preprocess
from core.models.splitting import split_for


class Classifier:
    """Implements `core.models.protocol.SuspectModel` for a network with one logit per class.

    Args:
        module: the network; put into evaluation mode.
        preprocess: mean and standard deviation per channel (or one for all), and the input size.
        input_shape: (C, H, W) of one image in pixel space.
        num_classes: K.

    Raises:
        ValueError: the network has no layer with K outputs, or the shapes contradict each other.
    """

    def __init__(
        self, module: nn.Module, preprocess: Preprocess, input_shape: tuple[int, int, int], num_classes: int
    ) -> None:
        channels = input_shape[0]
        if preprocess.size != input_shape[1:] or any(
            len(values) not in (1, channels) for values in (preprocess.mean, preprocess.std)
        ):
            raise ValueError(f"{preprocess} does not fit images of shape {input_shape}")
        if any(value <= 0 for value in preprocess.std):
            raise ValueError("standard deviations are positive")
        self._module = module.eval()
        self._split = split_for(module, num_classes)
        self.preprocess = preprocess
        self._input_shape, self._num_classes = input_shape, num_classes
        self._mean = torch.tensor(preprocess.mean).reshape(1, -1, 1, 1)
        self._std = torch.tensor(preprocess.std).reshape(1, -1, 1, 1)

    @property
    def num_targets(self) -> int:
        """K."""
        return self._num_classes

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self._input_shape

    @property
    def family(self) -> str:
        """The class of the network."""
        return type(self._module).__name__.lower()

    @property
    def scale(self) -> float | None:
        """It knows no texts."""
        return None

    @property
    def module(self) -> nn.Module:
        """The network behind the normalisation."""
        return self._module

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] -> the network's input, same shape."""
        return (pixels - self._mean) / self._std

    def target_log_posterior(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, K) log-probabilities."""
        return log_softmax(self._module(self.normalise(pixels)).float(), 1)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, D): what the last layer sees."""
        return self.posterior_and_features(pixels)[1]

    def posterior_and_features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Both from one forward pass."""
        logits, features = self._split(self._module, self.normalise(pixels))
        return log_softmax(logits.float(), 1), features

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters of the network that its answers depend on: what no gradient reaches is frozen."""
        return [parameter for parameter in self._module.parameters() if parameter.requires_grad]

    def clone(self) -> Self:
        """An independent copy with its own weights."""
        return copy.deepcopy(self)

    def to(self, device: torch.device) -> Self:
        """Move in place and return self."""
        self._module.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def state_dict_for_export(self) -> dict[str, Tensor]:
        """Copies on the CPU, by the network's own keys."""
        return {key: value.detach().cpu().clone() for key, value in self._module.state_dict().items()}
