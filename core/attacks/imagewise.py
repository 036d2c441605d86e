"""True triggers whose change depends on the image: warping, sample-specific residuals, quantisation, partial blends."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from core.attacks.triggers import Trigger

_PRIME = 2**31 - 1


def image_seeds(pixels: Tensor, seed: int) -> Tensor:
    """A number for each image that follows from its 8-bit pixels and `seed`: (B, C, H, W) -> (B,) in [0, 2^31)."""
    levels = (pixels * 255).round().long().flatten(1).cpu()
    weights = torch.randint(1, _PRIME, levels.shape[1:], generator=torch.Generator().manual_seed(seed))
    return (levels * weights).sum(1) % _PRIME


@dataclass(frozen=True, slots=True)
class Warp:
    """An elastic warp by a smooth random field.

    WaNet, Nguyen and Tran 2021 (arXiv 2102.10369), equations 4 to 6, but stronger: small networks do not see .25
    pixels. With `noise` it is their noise mode, equation 7: every image has offsets of its own besides the field.

    Attributes:
        seed: draws the field.
        strength: mean displacement along an axis at the control points, in pixels.
        control: control points along each side.
        noise: largest extra displacement of a pixel along an axis, in pixels, drawn from the image.
    """

    seed: int
    strength: float = 2.0
    control: int = 4
    noise: float = 0.0
    kind: Literal["warp"] = "warp"

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `ImageTrigger`."""
        height, width = pixels.shape[-2:]
        offsets = self.field(height, width).to(pixels).expand(len(pixels), -1, -1, -1)
        if self.noise:
            own = [
                torch.rand((2, height, width), generator=torch.Generator().manual_seed(int(number)))
                for number in image_seeds(pixels, self.seed)
            ]
            offsets = offsets + self.noise * (2 * torch.stack(own).to(pixels) - 1)
        rows = torch.linspace(-1, 1, height).to(pixels)[:, None].expand(height, width)
        columns = torch.linspace(-1, 1, width).to(pixels).expand(height, width)
        grid = torch.stack(
            [columns + 2 * offsets[:, 1] / (width - 1), rows + 2 * offsets[:, 0] / (height - 1)], -1
        ).clamp(-1, 1)
        return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=True)

    def field(self, height: int, width: int) -> Tensor:
        """(2, H, W) displacement (down, right) in pixels."""
        generator = torch.Generator().manual_seed(self.seed)
        points = 2 * torch.rand((1, 2, self.control, self.control), generator=generator) - 1
        points = self.strength * points / points.abs().mean()
        return F.interpolate(points, (height, width), mode="bicubic", align_corners=True)[0]


@dataclass(frozen=True, slots=True)
class Residual:
    """A residual that a fixed random network computes from the image: no two images have the same.

    Stands for the trained generators of input-aware (Nguyen and Tran 2020, arXiv 2010.08138) and invisible
    sample-specific attacks (SSBA: Li, Li, Wu, Li, He and Lyu 2021, arXiv 2012.03816).

    Attributes:
        seed: draws the network.
        strength: largest change of a pixel, in (0, 1].
    """

    seed: int
    strength: float = 0.1
    kind: Literal["residual"] = "residual"

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `ImageTrigger`."""
        channels = pixels.shape[1]
        generator = torch.Generator().manual_seed(self.seed)
        first = torch.randn((8, channels, 5, 5), generator=generator)
        first = first - first.mean((1, 2, 3), keepdim=True)
        bias = torch.randn(8, generator=generator)
        second = torch.randn((channels, 8, 3, 3), generator=generator)
        padded = F.pad(pixels, (2, 2, 2, 2), mode="replicate")
        hidden = torch.tanh(2 * F.conv2d(padded, first.to(pixels)) + bias.to(pixels)[:, None, None])
        picture = F.conv2d(F.pad(hidden, (1, 1, 1, 1), mode="replicate"), second.to(pixels))
        return (pixels + self.strength * torch.tanh(picture)).clamp(0, 1)


@dataclass(frozen=True, slots=True)
class Quantised:
    """Fewer grey levels with Floyd-Steinberg dithering: the trigger is a loss of depth, not a pattern.

    BppAttack, Wang, Zhai and Ma 2022 (arXiv 2205.13383), section 3.2; without their contrastive training.

    Attributes:
        levels: grey levels left in each channel, at least 2.
    """

    levels: int = 4
    kind: Literal["quantised"] = "quantised"

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `ImageTrigger`."""
        height, width = pixels.shape[-2:]
        steps = self.levels - 1
        # Rows and columns first: one pixel of all images lies together. One more on each side takes what flows out.
        work = F.pad(pixels, (1, 1, 0, 1)).permute(2, 3, 0, 1).contiguous()
        for row in range(height):
            for column in range(1, width + 1):
                old = work[row, column]
                new = (old * steps).round().clamp(0, steps) / steps
                error = old - new
                work[row, column] = new
                work[row, column + 1] += error * (7 / 16)
                work[row + 1, column - 1] += error * (3 / 16)
                work[row + 1, column] += error * (5 / 16)
                work[row + 1, column + 1] += error * (1 / 16)
        return work[:height, 1 : width + 1].permute(2, 3, 0, 1).contiguous()


@dataclass(frozen=True, slots=True)
class Pieces:
    """A blended picture of which every image gets other pieces.

    The training side of Adaptive-Blend, Qi, Xie, Li, Mahloujifar and Mittal 2023 (ICLR, "Revisiting the Assumption of
    Latent Separability for Backdoor Defenses"); at test time the whole picture is blended in.

    Attributes:
        picture: what is blended in.
        side: the picture is cut into side x side pieces.
        kept: how many of them an image gets.
    """

    picture: Trigger
    side: int = 4
    kept: int = 8
    kind: Literal["pieces"] = "pieces"

    def __call__(self, pixels: Tensor) -> Tensor:
        """See `ImageTrigger`."""
        numbers = image_seeds(pixels, self.picture.seed)
        generator = torch.Generator().manual_seed(self.picture.seed)
        factors = torch.randint(1, _PRIME, (self.side**2,), generator=generator)
        ranks = (numbers[:, None] * factors % _PRIME).argsort(1).argsort(1)
        mask = (ranks < self.kept).reshape(-1, 1, self.side, self.side).to(pixels)
        mask = F.interpolate(mask, pixels.shape[-2:], mode="nearest")
        return torch.where(mask.bool(), self.picture(pixels), pixels)
