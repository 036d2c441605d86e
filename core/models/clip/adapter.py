"""A model of images and texts as a SuspectModel: its targets are text directions."""

import copy
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from core.config import Preprocess


class ClipAdapter:
    """Implements `core.models.protocol.SuspectModel` for the image tower of a CLIP (Radford et al. 2021).

    The text tower is frozen: all that is left of it are the directions that texts point in. Copies of this object
    copy the image tower only.

    Args:
        tower: (B, C, H, W) normalised -> (B, D) embeddings; its state dict has the keys of the whole network.
        anchors: (K, D) text directions, the hypotheses; brought to length one.
        scale: what cosines are multiplied with before the softmax: the model's own exp(logit_scale).
        preprocess: mean and standard deviation per channel, and the input size.
        input_shape: (C, H, W) of one image in pixel space.

    Raises:
        ValueError: the shapes contradict each other, or there are fewer than two anchors.
    """

    def __init__(
        self, tower: nn.Module, anchors: Tensor, scale: float, preprocess: Preprocess, input_shape: tuple[int, int, int]
    ) -> None:
        if preprocess.size != input_shape[1:] or len(preprocess.mean) not in (1, input_shape[0]):
            raise ValueError(f"{preprocess} does not fit images of shape {input_shape}")
        if anchors.dim() != 2 or len(anchors) < 2:
            raise ValueError(f"anchors of shape {tuple(anchors.shape)}; at least two directions are needed")
        self._tower = tower.eval()
        self._anchors = normalize(anchors.detach().float(), dim=1)
        self.scale = scale
        self.preprocess = preprocess
        self._input_shape = input_shape
        self._mean = torch.tensor(preprocess.mean).reshape(1, -1, 1, 1)
        self._std = torch.tensor(preprocess.std).reshape(1, -1, 1, 1)

    @property
    def num_targets(self) -> int:
        """K."""
        return len(self._anchors)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self._input_shape

    @property
    def family(self) -> str:
        """Convolutions with batch normalisation, or without (transformers), however the library calls its class."""
        normalised = any(isinstance(layer, nn.BatchNorm2d) for layer in self._tower.modules())
        return "clip:resnet" if normalised else "clip:transformer"

    @property
    def module(self) -> nn.Module:
        """The image tower behind the normalisation."""
        return self._tower

    @property
    def anchors(self) -> Tensor:
        """(K, D), rows of length one."""
        return self._anchors

    def normalise(self, pixels: Tensor) -> Tensor:
        """Pixels in [0, 1] -> the tower's input, same shape."""
        return (pixels - self._mean) / self._std

    def target_log_posterior(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, K) log-probabilities of the anchors."""
        return self.posterior_and_features(pixels)[0]

    def features(self, pixels: Tensor) -> Tensor:
        """(B, C, H, W) in [0, 1] -> (B, D) embeddings of length one."""
        return normalize(self._tower(self.normalise(pixels)).float(), dim=1)

    def posterior_and_features(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Both from one forward pass."""
        embedding = self.features(pixels)
        return log_softmax(self.scale * embedding @ self._anchors.T, 1), embedding

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters of the image tower that the embedding depends on."""
        return [parameter for parameter in self._tower.parameters() if parameter.requires_grad]

    def clone(self) -> Self:
        """A copy with an image tower of its own; the anchors are shared."""
        twin = copy.copy(self)
        twin._tower = copy.deepcopy(self._tower)
        return twin

    def to(self, device: torch.device) -> Self:
        """Move in place and return self."""
        self._tower.to(device)
        self._anchors = self._anchors.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    def state_dict_for_export(self) -> dict[str, Tensor]:
        """Copies of the image tower's tensors on the CPU, by the whole network's keys; the text tower is as it was."""
        return {key: value.detach().cpu().clone() for key, value in self._tower.state_dict().items()}
