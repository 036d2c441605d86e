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
    maps = [(path, out) for path, out in seen if isinstance(out, Tensor) and _is_map(out)]
    blocks = [(path, out) for path, out in maps if next(network.get_submodule(path).children(), None) is not None]
    for candidates in (blocks, maps):
        ends = {tuple(out.shape[2:]): path for path, out in candidates if out.dim() == 4}
        if len(ends) > 1:
            return tuple(ends.values())[-STAGES:]
    numbered = [path for path, _ in blocks if path.rpartition(".")[2].isdigit()]
    depth = min((path.count(".") for path in numbered), default=0)
    chain = [path for path in numbered if path.count(".") == depth] or [path for path, _ in maps]
    picks = [round((stage + 1) * len(chain) / STAGES) - 1 for stage in range(STAGES)]
    return tuple(dict.fromkeys(chain[max(0, pick)] for pick in picks))


def _is_map(out: Tensor) -> bool:
    """(B, C, H, W) or (B, N, D) over more than one place."""
    return (out.dim() == 4 and out.shape[2] * out.shape[3] > 1) or (out.dim() == 3 and out.shape[1] > 1)


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
