"""Finds the network of a lone checkpoint with an image and a text tower, from its keys and shapes.

Shapes do not say how many heads a layer of attention has, nor which of the two usual activations follows it: heads are
64 wide unless a published configuration of the same shapes says otherwise, and the reference set decides between
the activations.
"""

import json
import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from core.errors import UnsupportedError
from core.models.architectures.base import Shapes
from core.models.architectures.misfit import must_fit, shapes_of
from core.models.clip.blueprint import ClipBlueprint

_HEAD = 64
_MARKS = {
    "open_clip": ("visual.", ("token_embedding.weight", "text.token_embedding.weight")),
    "transformers": ("vision_model.", ("text_model.embeddings.token_embedding.weight",)),
}
_PREFIX = "open_clip:"
_HINT = (
    "Add its open_clip_config.json (or the config.json of transformers) beside the weights, or send "
    "architecture=open_clip:NAME with a name that open_clip.list_models() lists."
)


def is_clip(shapes: Shapes) -> bool:
    """Whether there is an image tower and a text tower."""
    return _library(shapes) is not None


def infer_clip(shapes: Shapes, requested: str = "auto") -> list[ClipBlueprint]:
    """The networks these keys and shapes belong to, the usual one first; they differ in their activation only.

    Args:
        shapes: by the network's own keys: wrappers and prefixes removed.
        requested: "auto", or `open_clip:NAME` with a name of open_clip's list.

    Raises:
        UnsupportedError: `unsupported_architecture`: says what differs, or what the weights do not say.
    """
    library = _library(shapes)
    assert library is not None
    if requested != "auto":
        return [_fitting(_named(requested), shapes)]
    try:
        found = _open_clip(shapes) if library == "open_clip" else _transformers(shapes)
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UnsupportedError(
            "unsupported_architecture",
            f"The weights are of an image and a text tower, but of no known form ({str(error)[:120]}).",
            _HINT,
        ) from error
    return [_fitting(blueprint, shapes) for blueprint in found]


def _library(shapes: Shapes) -> str | None:
    for library, (images, texts) in _MARKS.items():
        if any(key.startswith(images) for key in shapes) and any(key in shapes for key in texts):
            return library
    return None


def _fitting(blueprint: ClipBlueprint, shapes: Shapes) -> ClipBlueprint:
    module = blueprint.build_meta()
    must_fit(blueprint.name, module, blueprint.without_spare(shapes_of(module), shapes), _HINT)
    return blueprint


def _named(requested: str) -> ClipBlueprint:
    config = _published().get(requested.removeprefix(_PREFIX))
    if config is None:
        raise UnsupportedError(
            "unsupported_architecture", f"open_clip has no configuration called {requested[:80]!r}.", _HINT
        )
    return ClipBlueprint.checked("open_clip", config, requested)[0]


@cache
def _published() -> Mapping[str, Mapping[str, Any]]:
    """open_clip's own configurations by name."""
    import open_clip

    folder = Path(open_clip.__file__).parent / "model_configs"
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def _open_clip(shapes: Shapes) -> list[ClipBlueprint]:
    prefix = "text." if "text.token_embedding.weight" in shapes else ""
    vocabulary, width = shapes[f"{prefix}token_embedding.weight"]
    text = {
        "context_length": shapes[f"{prefix}positional_embedding"][0],
        "vocab_size": vocabulary,
        "width": width,
        "layers": _blocks(shapes, f"{prefix}transformer.resblocks."),
        "mlp_ratio": shapes[f"{prefix}transformer.resblocks.0.mlp.c_fc.weight"][0] / width,
    }
    config: dict[str, Any] = {"embed_dim": shapes[f"{prefix}text_projection"][1]}
    if prefix:
        config["custom_text"] = True
    vision = _vision_transformer(shapes) if "visual.conv1.weight" in shapes and "visual.proj" in shapes else None
    vision = vision or _modified_resnet(shapes)
    text["heads"], vision["head_width"] = _heads(config, text, vision)
    both = {**config, "vision_cfg": vision, "text_cfg": text}
    return [
        ClipBlueprint.checked("open_clip", both | {"quick_gelu": quick}, "the shapes of the weights")[0]
        for quick in (False, True)
    ]


def _vision_transformer(shapes: Shapes) -> dict[str, Any]:
    width, _, patch, _ = shapes["visual.conv1.weight"]
    return {
        "width": width,
        "layers": _blocks(shapes, "visual.transformer.resblocks."),
        "patch_size": patch,
        "image_size": patch * _side(shapes["visual.positional_embedding"][0] - 1),
        "mlp_ratio": shapes["visual.transformer.resblocks.0.mlp.c_fc.weight"][0] / width,
    }


def _modified_resnet(shapes: Shapes) -> dict[str, Any]:
    return {
        "width": shapes["visual.layer1.0.conv1.weight"][0],
        "layers": [_blocks(shapes, f"visual.layer{stage}.") for stage in (1, 2, 3, 4)],
        "image_size": 32 * _side(shapes["visual.attnpool.positional_embedding"][0] - 1),
    }


def _heads(config: Mapping[str, Any], text: Mapping[str, Any], vision: Mapping[str, Any]) -> tuple[int, int]:
    """(heads of the text tower, width of the image tower's heads)."""
    for published in _published().values():
        images, texts = published.get("vision_cfg", {}), published.get("text_cfg", {})
        same = published.get("embed_dim") == config["embed_dim"]
        same = same and all(images.get(key) == vision[key] for key in ("width", "layers"))
        if same and all(texts.get(key) == text[key] for key in ("width", "layers")) and "heads" in texts:
            return texts["heads"], images.get("head_width", _HEAD)
    if text["width"] % _HEAD or (isinstance(vision["layers"], int) and vision["width"] % _HEAD):
        raise ValueError("the number of attention heads is not in the weights, and 64 does not divide the width")
    return text["width"] // _HEAD, _HEAD


def _transformers(shapes: Shapes) -> list[ClipBlueprint]:
    if "visual_projection.weight" not in shapes:
        raise ValueError("SigLIP's weights do not say how many heads a layer has")
    texts, images = "text_model.embeddings.", "vision_model.embeddings."
    vocabulary, width = shapes[f"{texts}token_embedding.weight"]
    wide, _, patch, _ = shapes[f"{images}patch_embedding.weight"]
    towers: dict[str, dict[str, Any]] = {
        "text_config": {
            "vocab_size": vocabulary,
            "max_position_embeddings": shapes[f"{texts}position_embedding.weight"][0],
            # The first CLIP's files said so: the last token is the one with the highest number then.
            "eos_token_id": 2,
        },
        "vision_config": {
            "patch_size": patch,
            "image_size": patch * _side(shapes[f"{images}position_embedding.weight"][0] - 1),
        },
    }
    for name, part, size in (("text_config", "text_model", width), ("vision_config", "vision_model", wide)):
        if size % _HEAD:
            raise ValueError("the number of attention heads is not in the weights, and 64 does not divide the width")
        towers[name] |= {
            "hidden_size": size,
            "num_hidden_layers": _blocks(shapes, f"{part}.encoder.layers."),
            "intermediate_size": shapes[f"{part}.encoder.layers.0.mlp.fc1.weight"][0],
            "num_attention_heads": size // _HEAD,
        }
    config = {"model_type": "clip", "projection_dim": shapes["visual_projection.weight"][0]}
    found = []
    for activation in ("quick_gelu", "gelu"):
        both = {name: tower | {"hidden_act": activation} for name, tower in towers.items()}
        found.append(ClipBlueprint.checked("transformers", config | both, "the shapes of the weights")[0])
    return found


def _blocks(shapes: Shapes, prefix: str) -> int:
    found = {key.removeprefix(prefix).partition(".")[0] for key in shapes if key.startswith(prefix)}
    if not found:
        raise ValueError(f"no {prefix}0")
    return len(found)


def _side(tokens: int) -> int:
    side = math.isqrt(max(tokens, 0))
    if side * side != tokens:
        raise ValueError(f"{tokens} places are no square")
    return side
