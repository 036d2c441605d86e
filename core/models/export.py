"""Writes weights back: in the upload's own container and key layout, and as safetensors."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from core.errors import EngineError
from core.models.layout import Layout, is_torch, rewrap


def as_stored(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` (the network's own keys) as the upload's keys and dtypes hold it.

    What a reader of the exported file gets: purified weights are verified in this form. Keys the upload does not
    have (a counter an old file lacks) are left out; a normalisation's keys must be in `state` under their own name.

    Raises:
        EngineError: `export_incomplete`: a weight of the upload is missing in `state`.
    """
    stored: dict[str, Tensor] = {}
    for key, dtype in layout.keys:
        tensor = state.get(layout.module_key(key))
        if tensor is None:
            raise EngineError("export_incomplete", f"The network has no {key[:120]!r} to write.")
        stored[key] = tensor.detach().to("cpu", layout.dtype(dtype)).contiguous().clone()
    return stored


def export_original(layout: Layout, state: Mapping[str, Tensor], path: Path) -> None:
    """Writes `state` to `path` in the container and key layout of the upload.

    Args:
        layout: of the upload.
        state: by the network's own keys, normalisation in front of it included.
        path: a file to create.
    """
    tensors = as_stored(layout, state)
    if not is_torch(layout):
        save_file(tensors, str(path), metadata=layout.metadata or None)
        return
    with path.open("wb") as file:
        torch.save(rewrap(layout, tensors), file, _use_new_zipfile_serialization=layout.container != "torch-legacy")


def export_safetensors(
    layouts: Sequence[Layout], state: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes `state` to `path` as safetensors: dictionaries and prefixes of the upload removed.

    Args:
        layouts: of the upload's files: key order and dtypes.
        state: by the network's own keys.
        path: a file to create.
        metadata: text to keep in the header, over what the upload's own header says.
    """
    tensors: dict[str, Tensor] = {}
    said: dict[str, str] = {"format": "pt"}
    for layout in layouts:
        tensors |= {layout.plain_key(key): tensor for key, tensor in as_stored(layout, state).items()}
        said |= layout.metadata
    save_file(tensors, str(path), metadata=said | dict(metadata or {}))
