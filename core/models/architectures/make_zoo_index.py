"""Writes zoo_index.json for the installed torchvision and timm (some minutes): `python -m` this module."""

import json
import warnings

from core.models.architectures import timm_zoo, torchvision_zoo
from core.models.architectures.registry import build_meta
from core.models.architectures.zoo_index import INDEX_PATH, element_count, key_digest


def make_index() -> dict[str, list[tuple[str, int]]]:
    """Key digest -> (name, elements with ten classes), over everything installed."""
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
    INDEX_PATH.write_text(json.dumps(make_index(), separators=(",", ":"), sort_keys=True) + "\n")
