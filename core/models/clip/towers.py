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


class TransformersImageTower(nn.Module):
    """The image tower of CLIP or SigLIP of transformers, with its projection where there is one.

    Args:
        network: `transformers.CLIPModel` or `transformers.SiglipModel`; the tower shares its weights.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.vision_model: nn.Module = network.vision_model
        if hasattr(network, "visual_projection"):
            self.visual_projection: nn.Module = network.visual_projection

    def forward(self, inputs: Tensor) -> Tensor:
        """(B, C, H, W), normalised -> (B, D) embeddings of any length."""
        embedding: Tensor = self.vision_model(pixel_values=inputs).pooler_output
        return self.visual_projection(embedding) if hasattr(self, "visual_projection") else embedding
