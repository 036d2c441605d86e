"""ConvNeXt and vision transformer of timm in sizes for small images; keys as timm's, no batch normalisation.

Names: `small_convnext-s<stem>-b<blocks>-w<widths>` with four stages and a stem of s x s patches;
`small_vit-i<side>-p<patch>-w<width>-b<blocks>-h<heads>`. Networks as large as timm's own are left to `timm:NAME`.
timm is imported on first use: it takes seconds.
"""

import math
import re
from typing import cast

from torch import nn

from core.models.architectures.base import Match, Shapes
from core.models.architectures.stages import block_counts, dotted, is_buildable, parse_dotted

_CONVNEXT = re.compile(r"small_convnext-s(?P<stem>[124])-b(?P<blocks>[\d.]+)-w(?P<widths>[\d.]+)")
_VIT = re.compile(
    r"small_vit-i(?P<side>\d{2,3})-p(?P<patch>\d{1,2})-w(?P<width>\d{1,3})-b(?P<blocks>\d{1,2})-h(?P<heads>\d{1,2})"
)
#: Below the smallest of timm's own: convnext_atto has 40 channels at first, vit_tiny 192.
_CONVNEXT_BELOW, _VIT_BELOW = 40, 192
#: timm's own small transformers cut larger ones.
_LARGEST_PATCH = 8
#: Channels an attention head usually has; weights do not show it.
_HEAD_WIDTH = 32


class SmallTimmFamily:
    """See the module's text for the names."""

    def build(self, name: str, num_classes: int, in_channels: int) -> nn.Module | None:
        """See `Family.build`."""
        if match := _CONVNEXT.fullmatch(name):
            blocks, widths = parse_dotted(match["blocks"]), parse_dotted(match["widths"])
            if not is_buildable(blocks, widths) or len(blocks) != 4 or widths[0] >= _CONVNEXT_BELOW:
                return None
            from timm.models.convnext import ConvNeXt

            convnext = ConvNeXt(
                in_chans=in_channels,
                num_classes=num_classes,
                depths=blocks,
                dims=widths,
                patch_size=int(match["stem"]),
            )
            return cast(nn.Module, convnext)
        if match := _VIT.fullmatch(name):
            side, patch, width, depth, heads = (
                int(match[key]) for key in ("side", "patch", "width", "blocks", "heads")
            )
            if not 0 < patch <= side or not 0 < heads <= width < _VIT_BELOW or width % heads or depth == 0:
                return None
            from timm.models.vision_transformer import VisionTransformer

            transformer = VisionTransformer(
                img_size=side,
                patch_size=patch,
                in_chans=in_channels,
                num_classes=num_classes,
                embed_dim=width,
                depth=depth,
                num_heads=heads,
                mlp_ratio=2,
            )
            return cast(nn.Module, transformer)
        return None

    def infer(self, shapes: Shapes) -> Match | None:
        """See `Family.infer`."""
        if "patch_embed.proj.weight" in shapes:
            return _infer_vit(shapes)
        stem, head = shapes.get("stem.0.weight"), shapes.get("head.fc.weight")
        blocks = block_counts(shapes, "stages.{}.blocks.{}.", first=0)
        if stem is None or head is None or len(stem) != 4 or len(head) != 2 or len(blocks) != 4:
            return None
        convs = [shapes.get(f"stages.{stage}.blocks.0.conv_dw.weight") for stage in range(4)]
        if stem[0] >= _CONVNEXT_BELOW or any(shape is None for shape in convs):
            return None
        widths = tuple(shape[0] for shape in convs if shape)
        name = f"small_convnext-s{stem[2]}-b{dotted(blocks)}-w{dotted(widths)}"
        return Match(name, head[0], stem[1], stem="imagenet")

    def twins(self, name: str) -> list[str]:
        """See `Family.twins`: transformers with half and twice as many heads."""
        match = _VIT.fullmatch(name)
        if match is None:
            return []
        width, heads = int(match["width"]), int(match["heads"])
        others = [other for other in (heads // 2, 2 * heads) if other and width % other == 0]
        return [f"{name[: match.start('heads')]}{other}" for other in others]


def _infer_vit(shapes: Shapes) -> Match | None:
    stem, head, position = (shapes.get(key) for key in ("patch_embed.proj.weight", "head.weight", "pos_embed"))
    if stem is None or head is None or position is None or (len(stem), len(head), len(position)) != (4, 2, 3):
        return None
    width, patch, depth = stem[0], stem[2], 0
    while f"blocks.{depth}.norm1.weight" in shapes:
        depth += 1
    patches = math.isqrt(max(position[1] - 1, 0))
    if width >= _VIT_BELOW or patch > _LARGEST_PATCH or patches**2 != position[1] - 1:
        return None
    side, heads = patches * patch, max(1, width // _HEAD_WIDTH)
    name = f"small_vit-i{side}-p{patch}-w{width}-b{depth}-h{heads}"
    return Match(name, head[0], stem[1], (side, side), (side, side), "imagenet", side)
