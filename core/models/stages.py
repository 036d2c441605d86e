"""The ends of a network's stages, found by running it: where attention distillation compares two networks."""

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from core.models.protocol import SuspectModel

#: How many stages are compared.
STAGES = 3


@torch.no_grad()
def stage_ends(model: SuspectModel) -> tuple[str, ...]:
    """Paths of up to `STAGES` layers, early to late, whose outputs end a stage.

    A stage is what computes at one resolution; its end is the last block there, or the last layer in networks without
    blocks. Networks of one resolution (transformers) are cut into stages of equally many blocks.
    """
    seen: list[tuple[str, Tensor]] = []
    network = model.module
    handles = [
        layer.register_forward_hook(lambda _, __, out, path=path: seen.append((path, out)))
        for path, layer in network.named_modules()
        if path
    ]
    try:
        pixels = torch.zeros((1, *model.input_shape), device=model.trainable_parameters()[0].device)
        model.target_log_posterior(pixels)
    finally:
        for handle in handles:
            handle.remove()
    maps = [(path, out) for path, out in seen if isinstance(out, Tensor)]
    blocks = [(path, out) for path, out in maps if next(network.get_submodule(path).children(), None) is not None]
    ends = _by_resolution(blocks)
    chain = [path for path, out in blocks if out.dim() == 3 and path.rpartition(".")[2].isdigit()]
    if len(ends) < 2 and chain:
        depth = min(path.count(".") for path in chain)
        chain = [path for path in chain if path.count(".") == depth]
        picks = [max(0, round((stage + 1) * len(chain) / STAGES) - 1) for stage in range(STAGES)]
        ends = tuple(dict.fromkeys(chain[pick] for pick in picks))
    return ends or _by_resolution(maps)


def _by_resolution(maps: list[tuple[str, Tensor]]) -> tuple[str, ...]:
    """The last of the layers at each of the last resolutions above one pixel; none if there is one resolution only."""
    ends = {tuple(out.shape[2:]): path for path, out in maps if out.dim() == 4 and out.shape[2] * out.shape[3] > 1}
    return tuple(ends.values())[-STAGES:] if len(ends) > 1 else ()


@contextlib.contextmanager
def watching(network: nn.Module, paths: tuple[str, ...]) -> Iterator[dict[str, Tensor]]:
    """The outputs of those layers in the latest forward pass, by path."""
    outputs: dict[str, Tensor] = {}
    handles = [
        network.get_submodule(path).register_forward_hook(lambda _, __, out, path=path: outputs.__setitem__(path, out))
        for path in paths
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
