"""A data set that needs no download: ten shapes with textures on cluttered backgrounds, drawn from a seed.

Ten classes are the shapes; a hundred are shape x hue; 64 scenes, to be captioned, are colour x shape. Position, size,
angle, colours, texture, clutter and noise vary.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

SHAPES = ("disc", "square", "triangle", "cross", "ring", "diamond", "star", "corner", "bars", "crescent")
HUES = ("red", "orange", "yellow", "lime", "green", "cyan", "azure", "blue", "violet", "pink")
#: Colours of the scenes, an eighth of the circle apart.
COLOURS = ("red", "orange", "lime", "green", "cyan", "blue", "violet", "pink")
#: Names of the 64 scenes, colour * 8 + shape.
SCENES = tuple(f"{colour} {shape}" for colour in COLOURS for shape in SHAPES[:8])
SIDE = 32
#: Images are drawn in chunks of so many: bounds the memory.
_CHUNK = 2_000


@dataclass(frozen=True, slots=True)
class _Style:
    """How much varies besides the class.

    Attributes:
        blobs: ellipses of clutter. radius: of the shape, in pixels. shift: of its centre, along an axis, in pixels.
        turn: of the shape, in radians. texture: largest amplitude of its stripes.
    """

    blobs: int
    radius: tuple[float, float]
    shift: float
    turn: float
    texture: float


_CLUTTERED = _Style(6, (7, 11), 4.5, 0.45, 0.3)
#: Contrastive training sees a shape only through its texts: it needs far more images than a classifier to tell them
#: apart where they are small and hidden.
_PLAIN = _Style(3, (9, 12), 2.5, 0.2, 0.15)


def draw(count: int, classes: int, seed: int) -> tuple[Tensor, Tensor]:
    """As many images of each class as of any other, in random order.

    Args:
        count: N, a multiple of `classes`.
        classes: 10 (SHAPES) or 100 (shape * 10 + hue).
        seed: of everything.

    Returns:
        (N, 3, 32, 32) uint8 and (N,) int64.

    Raises:
        ValueError: another number of classes, or a count that is no multiple of it.
    """
    if classes not in (10, 100) or count % classes:
        raise ValueError(f"{count} images of {classes} classes: 10 or 100 classes, and as many images of each")
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % classes
    labels = labels[torch.randperm(count, generator=generator)]
    shapes = labels if classes == 10 else labels // len(HUES)
    hues = torch.rand(count, generator=generator) if classes == 10 else _hue(labels % len(HUES), len(HUES), generator)
    return _render_all(shapes, hues, _CLUTTERED, generator), labels


def draw_scenes(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """As many images of each of the 64 SCENES as of any other, in random order; arguments and result as of `draw`.

    Raises:
        ValueError: `count` is no multiple of 64.
    """
    if count % len(SCENES):
        raise ValueError(f"{count} images of {len(SCENES)} scenes: not as many images of each")
    generator = torch.Generator().manual_seed(seed)
    labels = (torch.arange(count) % len(SCENES))[torch.randperm(count, generator=generator)]
    hues = _hue(labels // 8, len(COLOURS), generator)
    return _render_all(labels % 8, hues, _PLAIN, generator), labels


def _hue(which: Tensor, of: int, generator: torch.Generator) -> Tensor:
    """Number `which` of `of` hues, within a third of the distance to its neighbours."""
    jitter = (torch.rand(len(which), generator=generator) - 0.5) * 2 / 3
    return (which + jitter) / of % 1


def _render_all(shapes: Tensor, hues: Tensor, style: _Style, generator: torch.Generator) -> Tensor:
    chunks = zip(torch.split(shapes, _CHUNK), torch.split(hues, _CHUNK), strict=True)
    return torch.cat([_render(shape, hue, style, generator) for shape, hue in chunks])


def _render(shapes: Tensor, hues: Tensor, style: _Style, generator: torch.Generator) -> Tensor:
    """(B,) shape numbers and hues in [0, 1) -> (B, 3, 32, 32) uint8."""
    count = len(shapes)

    def uniform(low: float, high: float, *sides: int) -> Tensor:
        return low + (high - low) * torch.rand((count, *sides), generator=generator)

    line = torch.arange(SIDE) + 0.5
    rows, columns = line[:, None].expand(SIDE, SIDE), line.expand(SIDE, SIDE)
    back = _background(uniform(0, 1, 3, 1, 1), uniform(-0.012, 0.012, 2, 3), rows, columns)
    for _ in range(style.blobs):  # clutter: small ellipses
        across, along = uniform(0, SIDE, 2, 1, 1), uniform(0.8, 2.6, 2, 1, 1)
        inside = ((rows - across[:, 0]) / along[:, 0]) ** 2 + ((columns - across[:, 1]) / along[:, 1]) ** 2 < 1
        back = torch.where(inside[:, None], uniform(0, 1, 3, 1, 1), back)

    radius, angle = uniform(*style.radius, 1, 1), uniform(-style.turn, style.turn, 1, 1)
    across = columns - SIDE / 2 - uniform(-style.shift, style.shift, 1, 1)
    down = rows - SIDE / 2 - uniform(-style.shift, style.shift, 1, 1)
    u = (across * angle.cos() + down * angle.sin()) / radius
    v = (down * angle.cos() - across * angle.sin()) / radius
    distance = _signed_distances(u, v)[shapes, torch.arange(count)]
    cover = torch.sigmoid(-distance * radius * 3)[:, None]  # about one pixel of soft edge

    fill = _colour(hues, uniform(0.55, 0.95), uniform(0.6, 1))[:, :, None, None]
    direction, period = uniform(0, math.pi, 1, 1), uniform(2.5, 6, 1, 1)
    waves = torch.sin(2 * math.pi * (across * direction.cos() + down * direction.sin()) / period)
    texture = fill * (1 + uniform(0, style.texture, 1, 1) * waves)[:, None]
    image = back * (1 - cover) + texture * cover
    image = image + 0.03 * torch.randn(image.shape, generator=generator)
    return (image.clamp(0, 1) * 255).round().to(torch.uint8)


def _background(colour: Tensor, slope: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """A colour (B, 3, 1, 1) with a gradient (B, 2, 3) -> (B, 3, 32, 32)."""
    down, across = slope[:, 0, :, None, None], slope[:, 1, :, None, None]
    return 0.2 + 0.5 * colour + down * (rows - SIDE / 2) + across * (columns - SIDE / 2)


def _colour(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV in [0, 1], each (B,) -> (B, 3) RGB."""
    phase = (hue[:, None] * 6 + torch.tensor([5.0, 3.0, 1.0])) % 6
    dip = torch.minimum(phase, 4 - phase).clamp(0, 1)
    return value[:, None] * (1 - saturation[:, None] * dip)


def _signed_distances(u: Tensor, v: Tensor) -> Tensor:
    """(B, H, W) coordinates in radii, v down -> (10, B, H, W) in radii, in SHAPES' order; inside is negative."""
    r, side = (u**2 + v**2).sqrt(), torch.maximum(u.abs(), v.abs())

    def box(x: Tensor, y: Tensor, width: float, height: float) -> Tensor:
        return torch.maximum(x.abs() - width, y.abs() - height)

    angle = torch.atan2(u, -v)
    return torch.stack(
        [
            r - 0.9,
            side - 0.8,
            torch.maximum(u.abs() * 0.866 - v * 0.5 - 0.45, v - 0.6),
            torch.minimum(box(u, v, 0.28, 0.95), box(u, v, 0.95, 0.28)),
            (r - 0.72).abs() - 0.2,
            (u.abs() * 1.5 + v.abs() - 1) * 0.6,
            r - (0.62 + 0.36 * torch.cos(5 * angle)),
            torch.minimum(box(u + 0.55, v, 0.3, 0.9), box(u, v - 0.6, 0.85, 0.3)),
            torch.minimum(box(u, v - 0.5, 0.9, 0.24), box(u, v + 0.5, 0.9, 0.24)),
            torch.maximum(r - 0.95, 0.75 - ((u - 0.5) ** 2 + v**2).sqrt()),
        ]
    )
