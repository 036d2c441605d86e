"""A small pattern whose place is unknown: the search for local triggers.

The window is a latent variable. Each sample sees the pattern through one window; the pattern is shared, so its gradient
averages over places, and the evidence for each window is kept. The best window then becomes an ordinary patch.
"""

from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from core.triggers.base import TRIGGERS, ParticleOperator, Placement
from core.triggers.patch import UNIT_AREA, PatchOperator

#: Side of the pattern and stride of the windows, as shares of the shorter image side (5 and 3 pixels of 32).
SIDE, STRIDE = 5 / 32, 3 / 32
#: Mask logit outside the window when a tile becomes a patch: as good as uncovered.
_OUTSIDE = -7.0
_RIM = 1
_MEMORY = 0.9  # of the running evidence per window
_EXPLORE = 0.15  # share of uniform draws


@TRIGGERS.register("tiled")
class TiledOperator(ParticleOperator):
    """x' = x + s m (p - x) inside one window per sample; energy as for a patch: covered share of the image area."""

    name = "tiled"
    learning_rate: ClassVar[float] = 0.5
    natural_energy: ClassVar[float] = 2.0

    evidence: Tensor
    seen: Tensor
    window: Tensor
    row_hot: Tensor
    column_hot: Tensor

    def __init__(self, particles: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(particles, image_shape)
        channels, height, width = image_shape
        short = min(height, width)
        self.side = max(3, round(SIDE * short))
        stride = max(1, round(STRIDE * short))
        rows = _offsets(height, self.side, stride)
        columns = _offsets(width, self.side, stride)
        self.offsets = [(row, column) for row in rows for column in columns]
        self.mask_logit = nn.Parameter(torch.full((particles, 1, self.side, self.side), 2.0))
        self.pattern_logit = nn.Parameter(torch.zeros(particles, channels, self.side, self.side))
        windows = len(self.offsets)
        self.register_buffer("evidence", torch.zeros(particles, windows))
        self.register_buffer("seen", torch.zeros(particles, windows))
        self.register_buffer("window", torch.zeros(particles, dtype=torch.long))
        self.register_buffer("row_hot", _one_hot([row for row, _ in self.offsets], height, self.side), persistent=False)
        self.register_buffer(
            "column_hot", _one_hot([column for _, column in self.offsets], width, self.side), persistent=False
        )

    @property
    def windows(self) -> int:
        """How many places there are."""
        return len(self.offsets)

    def _change(self, pixels: Tensor, factor: Tensor, placement: Placement) -> Tensor:
        place = self.window[:, None] if placement is None else placement
        mask = self.mask_logit.sigmoid()
        pattern = self.pattern_logit.sigmoid()
        tile = torch.cat([mask, mask * pattern], dim=1)  # (M, 1 + C, side, side)
        rows, columns = self.row_hot[place], self.column_hot[place]  # (M, B or 1, H, side), (M, B or 1, W, side)
        canvas = torch.matmul(torch.matmul(rows[:, :, None], tile[:, None]), columns[:, :, None].transpose(-1, -2))
        return pixels + factor * (canvas[:, :, 1:] - canvas[:, :, :1] * pixels)

    def _size(self) -> Tensor:
        area = self.image_shape[1] * self.image_shape[2]
        return self.mask_logit.sigmoid().sum(dim=(1, 2, 3)) / area / UNIT_AREA

    def draw(self, batch: int, generator: torch.Generator) -> Placement:
        """Windows by their evidence so far, mixed with uniform ones; never-seen windows count as the best seen."""
        unseen = self.evidence.max(dim=1, keepdim=True).values
        evidence = torch.where(self.seen > 0, self.evidence, unseen)
        share = torch.softmax(4.0 * evidence, dim=1)
        share = (1 - _EXPLORE) * share + _EXPLORE / self.windows
        return torch.multinomial(share.cpu(), batch, replacement=True, generator=generator).to(self.scale.device)

    def observe(self, placement: Placement, evidence: Tensor, weight: Tensor) -> None:
        if placement is None:
            return
        total = torch.zeros_like(self.evidence).scatter_add_(1, placement, evidence * weight)
        count = torch.zeros_like(self.evidence).scatter_add_(1, placement, weight)
        fresh = count > 0
        mean = total / count.clamp(min=1e-9)
        memory = torch.where(
            self.seen > 0, torch.full_like(mean, _MEMORY).pow(count.clamp(max=8.0)), mean.new_zeros(())
        )
        self.evidence = torch.where(fresh, memory * self.evidence + (1 - memory) * mean, self.evidence)
        self.seen = self.seen + count

    def candidates(self, top: int) -> Tensor:
        """(M, top) windows with the most evidence."""
        evidence = torch.where(self.seen > 0, self.evidence, torch.full_like(self.evidence, -torch.inf))
        return evidence.topk(min(top, self.windows), dim=1).indices

    def to_patch(self) -> PatchOperator:
        """The same triggers as patches, each at its own `window`, free to grow over the whole image."""
        patch = PatchOperator(self.particles, self.image_shape).to(self.scale.device)
        with torch.no_grad():
            patch.scale.copy_(self.scale)
            patch.mask_logit.fill_(_OUTSIDE)
            for particle in range(self.particles):
                row, column = self.offsets[int(self.window[particle])]
                inside = (particle, slice(None), slice(row, row + self.side), slice(column, column + self.side))
                patch.mask_logit[inside] = self.mask_logit[particle]
                patch.pattern_logit[inside] = self.pattern_logit[particle]
        return patch

    def confine(self, patch: PatchOperator) -> None:
        """Keep `patch`, made by `to_patch`, within _RIM pixels of its window."""
        patch.support.zero_()
        for particle in range(self.particles):
            row, column = self.offsets[int(self.window[particle])]
            rows = slice(max(0, row - _RIM), row + self.side + _RIM)
            patch.support[particle, :, rows, max(0, column - _RIM) : column + self.side + _RIM] = 1.0

    def _empty(self, particles: int) -> Self:
        return type(self)(particles, self.image_shape)


def _offsets(length: int, side: int, stride: int) -> list[int]:
    """Window starts from one border to the other, both included."""
    last = length - side
    return sorted({*range(0, last, stride), last})


def _one_hot(starts: list[int], length: int, side: int) -> Tensor:
    """(windows, length, side): which image row shows which pattern row."""
    hot = torch.zeros(len(starts), length, side)
    for window, start in enumerate(starts):
        hot[window, start : start + side] = torch.eye(side)
    return hot
