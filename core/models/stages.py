"""The ends of a network's stages, found by running it: where attention distillation compares two networks."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core.models.protocol import SuspectModel

#: How many stages are compared.
STAGES = 3
_BATCH = 2


@torch.no_grad()
def stage_ends(model: SuspectModel) -> tuple[str, ...]:
    """Paths of up to `STAGES` layers, early to late, whose outputs end a stage.

    A stage is what computes at one resolution; its end is the last block there, or the last layer in networks without
    blocks. Networks of one resolution (transformers, also behind a convolutional stem) are cut into stages of equally
    many blocks.
    """
    seen: list[tuple[str, Tensor | None]] = []
    network = model.module
    handles = [
        layer.register_forward_hook(lambda _, __, out, path=path: seen.append((path, _tensor(out))))
        for path, layer in network.named_modules()
        if path
    ]
    try:
        pixels = torch.zeros((_BATCH, *model.input_shape), device=model.trainable_parameters()[0].device)
        model.target_log_posterior(pixels)
    finally:
        for handle in handles:
            handle.remove()
    # One row per image: what is computed per window, or once for all images, is no stage.
    maps = [(path, out) for path, out in seen if out is not None and out.dim() and out.shape[0] == _BATCH]
    blocks = [(path, out) for path, out in maps if next(network.get_submodule(path).children(), None) is not None]
    ends = _by_resolution(blocks)
    chain = [path for path, out in blocks if out.dim() == 3 and path.rpartition(".")[2].isdigit()]
    order = [path for path, _ in blocks]
    if chain and (len(ends) < 2 or order.index(ends[-1]) < order.index(chain[0])):
        depth = min(path.count(".") for path in chain)
        chain = [path for path in chain if path.count(".") == depth]
        picks = [max(0, round((stage + 1) * len(chain) / STAGES) - 1) for stage in range(STAGES)]
        ends = tuple(dict.fromkeys(chain[pick] for pick in picks))
    return ends or _by_resolution(maps)


def _tensor(out: object) -> Tensor | None:
    """What a layer computes: its output, or the first one of several."""
    first = out[0] if isinstance(out, tuple) and out else out
    return first if isinstance(first, Tensor) else None


def _by_resolution(maps: list[tuple[str, Tensor]]) -> tuple[str, ...]:
    """The last of the layers at each of the last resolutions above one pixel; none if there is one resolution only."""
    ends = {tuple(out.shape[2:]): path for path, out in maps if out.dim() == 4 and out.shape[2] * out.shape[3] > 1}
    return tuple(ends.values())[-STAGES:] if len(ends) > 1 else ()


@contextlib.contextmanager
def watching(network: nn.Module, paths: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """The outputs of those layers in the latest forward pass, by path."""
    outputs: dict[str, Tensor] = {}

    def keep(path: str, out: object) -> None:
        if (tensor := _tensor(out)) is not None:
            outputs[path] = tensor

    handles = [
        network.get_submodule(path).register_forward_hook(lambda _, __, out, path=path: keep(path, out))
        for path in paths
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
