"""Which torchvision and timm networks have a given set of keys: an index, so that `auto` builds few candidates.

The index is only a hint; what it names is built and compared. `python -m core.models.architectures.zoo_index`
writes it anew for the installed versions.
"""

import hashlib
import json
import warnings
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from core.models.architectures.base import Shapes

#: Counters that old files lack do not count.
_OPTIONAL = "num_batches_tracked"

_PATH = Path(__file__).with_name("zoo_index.json")


def key_digest(keys: Iterable[str]) -> str:
    """Of the set of keys."""
    text = "\n".join(sorted(key for key in keys if not key.endswith(_OPTIONAL)))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def element_count(shapes: Shapes) -> int:
    """Elements of all tensors."""
    return sum(torch.Size(shape).numel() for key, shape in shapes.items() if not key.endswith(_OPTIONAL))


@cache
def _index() -> dict[str, list[tuple[str, int]]]:
    return {digest: [(name, size) for name, size in rows] for digest, rows in json.loads(_PATH.read_text()).items()}


def candidates(shapes: Shapes) -> list[str]:
    """Names with exactly these keys, those nearest in size first; torchvision before timm where equal."""
    elements = element_count(shapes)
    rows = _index().get(key_digest(shapes), [])
    return [name for name, size in sorted(rows, key=lambda row: abs(row[1] - elements))]


def size() -> int:
    """How many networks are indexed."""
    return sum(len(rows) for rows in _index().values())


def make_index() -> dict[str, list[tuple[str, int]]]:
    """Key digest -> (name, elements with ten classes), over everything installed."""
    from core.models.architectures import timm_zoo, torchvision_zoo
    from core.models.architectures.registry import build_meta

    index: dict[str, list[tuple[str, int]]] = {}
    names = [f"torchvision:{name}" for name in torchvision_zoo.names()]
    names += ["torchvision:googlenet-noaux", "torchvision:inception_v3-noaux"]
    names += [f"timm:{name}" for name in timm_zoo.names()]
    for name in names:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = build_meta(name, 10).state_dict()
        shapes = {key: tuple(tensor.shape) for key, tensor in state.items()}
        index.setdefault(key_digest(shapes), []).append((name, element_count(shapes)))
    return index


if __name__ == "__main__":
    _PATH.write_text(json.dumps(make_index(), separators=(",", ":"), sort_keys=True) + "\n")
