"""The image side of a model of images and texts, cut out of the whole network without a copy."""

from typing import Any

from torch import Tensor, nn


class OpenClipImageTower(nn.Module):
    """The image tower of an open_clip network; its state dict has the whole network's keys (`visual.*`).

    Args:
        network: `open_clip.CLIP` or `open_clip.CustomTextCLIP`; the tower shares its weights.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.visual: nn.Module = network.visual

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W), normalised -> (B, D) embeddings of any length."""
        embedding: Tensor = self.visual(inputs)
        return embedding
