"""Which torchvision and timm networks have a given set of keys: an index, so that `auto` builds few candidates.

The index is only a hint; what it names is built and compared. `python -m core.models.architectures.make_zoo_index`
writes it anew for the installed versions.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import torch

from core.models.architectures.base import Shapes

#: Counters that old files lack do not count.
_OPTIONAL = "num_batches_tracked"

INDEX_PATH = Path(__file__).with_name("zoo_index.json")


def key_digest(keys: Iterable[str]) -> str:
    """Of the set of keys."""
    text = "\n".join(sorted(key for key in keys if not key.endswith(_OPTIONAL)))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def element_count(shapes: Shapes) -> int:
    """Elements of all tensors."""
    return sum(torch.Size(shape).numel() for key, shape in shapes.items() if not key.endswith(_OPTIONAL))


@cache
def _index() -> dict[str, list[tuple[str, int]]]:
    return {
        digest: [(name, size) for name, size in rows] for digest, rows in json.loads(INDEX_PATH.read_text()).items()
    }


def candidates(shapes: Shapes) -> list[tuple[str, int]]:
    """(name, size) of what has exactly these keys, nearest in size first; torchvision before timm where equal.

    Networks that also agree in all shapes have the same size here.
    """
    elements = element_count(shapes)
    return sorted(_index().get(key_digest(shapes), []), key=lambda row: abs(row[1] - elements))


def size() -> int:
    """How many networks are indexed."""
    return sum(len(rows) for rows in _index().values())
