"""Networks of open_clip, built from the checked fields of `model_cfg` in an open_clip_config.json.

A field that is not in these lists refuses the model: without it another network would be built than the one that the
weights are of. open_clip is imported on first use: it takes seconds. Nothing here reads a file or asks a hub.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from core.errors import InvalidInputError, UnsupportedError
from core.models.architectures import timm_configs
from core.models.architectures.building import refusals
from core.models.architectures.fields import (
    DEPTH,
    EPSILON,
    HEADS,
    RATIO,
    SCALE,
    SIDE,
    WIDTH,
    Check,
    Checked,
    check_fields,
    choice,
    flag,
    number,
    one_or_several,
    whole,
)
from core.models.clip.tokenizers import CLEANINGS, TokenizerRules
from core.models.clip.towers import OpenClipImageTower

#: What open_clip takes where a configuration says nothing.
_CONTEXT_LENGTH, _VOCAB_SIZE, _IMAGE_SIZE = 77, 49_408, 224
Size = tuple[int, int]
#: Tokens of a text, and of a vocabulary: more than any text tower in use.
_CONTEXT, _VOCABULARY = whole(1, 8_192), whole(2, 2_000_000)
_BLOCK: Mapping[str, Check] = {
    "block_type": choice("default", "custom"),
    "layers": DEPTH,
    "ls_init_value": SCALE,
    "mlp_ratio": RATIO,
    "qk_norm": flag,
    "scale_attn": flag,
    "scale_attn_inner": flag,
    "scale_fc": flag,
    "scale_heads": flag,
    "scaled_cosine_attn": flag,
    "width": WIDTH,
}
_VISION: Mapping[str, Check] = {
    **_BLOCK,
    "attentional_pool": flag,
    "attn_pooler_heads": HEADS,
    "attn_pooler_queries": WIDTH,
    "final_ln_after_pool": flag,
    "head_width": WIDTH,
    "image_size": SIDE,
    "layers": one_or_several(DEPTH, 4),
    "no_ln_pre": flag,
    "patch_size": one_or_several(whole(1, 256), 2),
    "pool_type": choice("tok", "avg"),
    "pos_embed_type": choice("learnable", "sin_cos_2d"),
    "timm_pool": choice("", "avg", "abs_attn", "rot_attn", "map", "token"),
    "timm_proj": choice("", "linear", "mlp", "none"),
    "timm_proj_bias": flag,
}
_TEXT: Mapping[str, Check] = {
    **_BLOCK,
    "context_length": _CONTEXT,
    "eos_id": _VOCABULARY,
    "final_ln_after_pool": flag,
    "heads": HEADS,
    "no_causal_mask": flag,
    "pad_id": whole(0, 2_000_000),
    "pool_type": choice("argmax", "eos", "first", "last"),
    "proj_bias": flag,
    "proj_type": choice("linear", "none"),
    "vocab_size": _VOCABULARY,
}
_NETWORK: Mapping[str, Check] = {
    "custom_text": flag,
    "embed_dim": WIDTH,
    "init_logit_bias": number(-1e3, 1e3),
    "init_logit_scale": number(-1e3, 1e3),
    "nonscalar_logit_scale": flag,
    "quick_gelu": flag,
}
_NORM: Mapping[str, Check] = {"eps": EPSILON}
_ACT: Mapping[str, Check] = {"approximate": choice("none", "tanh")}
#: What goes to the layers of a tower as it is.
_INNER: Mapping[str, Mapping[str, Check]] = {"norm_kwargs": _NORM, "act_kwargs": _ACT}
#: Fields that matter in training only, or that are dealt with elsewhere.
_KNOWN_VISION = frozenset(
    {"output_tokens", "patch_dropout", "timm_drop", "timm_drop_path", "timm_model_name", "timm_model_pretrained"}
)
_KNOWN_TEXT = frozenset(
    {"hf_model_name", "hf_model_pretrained", "hf_pooler_type", "hf_proj_type", "hf_tokenizer_name", "output_tokens"}
    | {"tokenizer_kwargs", "tokenizer_mode"}
)
_KNOWN_NETWORK = frozenset({"vision_cfg", "text_cfg"})


class OpenClip:
    """Implements `core.models.clip.library.Library`."""

    #: Numbers that the first CLIP's files hold beside the weights, and that its scripted form needs.
    spare: tuple[str, ...] = (r"^(input_resolution|context_length|vocab_size)$",)

    def check(self, config: Mapping[str, Any], where: str) -> Checked:
        """The fields of `model_cfg`.

        Raises:
            InvalidInputError: `invalid_config`.
            UnsupportedError: `unsupported_config`, `unsupported_architecture` (no network of timm),
                `unsupported_text_model` (a text tower of another library).
        """
        vision, text = (_object(config, key, where) for key in ("vision_cfg", "text_cfg"))
        if text.get("hf_model_name"):
            raise UnsupportedError(
                "unsupported_text_model",
                f"{where}: the text tower is {str(text['hf_model_name'])[:80]!r} of transformers.",
                "Models of open_clip with its own text tower can be scanned.",
            )
        options = _checked(config, _NETWORK, _KNOWN_NETWORK, where)
        if "embed_dim" not in options:
            raise InvalidInputError("invalid_config", f"{where}: embed_dim is missing.", "Add it.")
        options["vision_cfg"] = _tower(vision, _VISION, _KNOWN_VISION, f"{where}, vision_cfg")
        options["text_cfg"] = _tower(text, _TEXT, _KNOWN_TEXT, f"{where}, text_cfg")
        if vision.get("timm_model_name") is not None:
            options["vision_cfg"]["timm_model_name"] = timm_configs.check_name(vision["timm_model_name"], where)
        return Checked(options, ())

    def tokenizer(self, config: Mapping[str, Any]) -> TokenizerRules:
        """From `text_cfg` of a checked `model_cfg`, as `open_clip.get_tokenizer` reads it."""
        text = config["text_cfg"]
        arguments = text.get("tokenizer_kwargs") or {}
        clean = arguments.get("clean") if isinstance(arguments, Mapping) else None
        own = bool(text.get("hf_tokenizer_name"))
        usual = (
            isinstance(arguments, Mapping)
            and set(arguments) <= {"clean", "strip_sep_token"}
            and clean in (None, *CLEANINGS)
            and not text.get("tokenizer_mode")
        )
        return TokenizerRules(
            context=text.get("context_length", _CONTEXT_LENGTH),
            size=text.get("vocab_size", _VOCAB_SIZE),
            own=own,
            clean=clean or ("whitespace" if own else "lower"),
            strip_separator=usual and arguments.get("strip_sep_token") is True,
            unusual="" if usual else "tokenizer_mode or tokenizer_kwargs ask for what is not done here",
        )

    def build(self, options: Mapping[str, Any]) -> nn.Module:
        """`open_clip.CLIP` or `open_clip.CustomTextCLIP` with fresh weights."""
        import open_clip

        arguments = {key: value for key, value in options.items() if key != "custom_text"}
        network = open_clip.CustomTextCLIP if options.get("custom_text") else open_clip.CLIP
        with refusals("open_clip", "network"):
            module: nn.Module = network(**arguments)
        return module

    def network_keys(self, module: nn.Module, keys: Iterable[str]) -> dict[str, str]:
        """Files and networks use the same keys."""
        return {key: key for key in keys}

    def name(self, options: Mapping[str, Any]) -> str:
        """The image tower in a word: vit, resnet, or a name of timm."""
        vision = options["vision_cfg"]
        if "timm_model_name" in vision:
            return str(vision["timm_model_name"])
        return "resnet" if isinstance(vision.get("layers"), list) else "vit"

    def image_size(self, options: Mapping[str, Any]) -> Size:
        """Of the image tower."""
        side = options["vision_cfg"].get("image_size", _IMAGE_SIZE)
        return (side[0], side[-1]) if isinstance(side, list) else (side, side)

    def image_tower(self, network: Any) -> nn.Module:
        """`visual` alone."""
        return OpenClipImageTower(network)

    def embed(self, network: Any, tokens: Tensor) -> Tensor:
        """(N, L) -> (N, D)."""
        embedding: Tensor = network.encode_text(tokens)
        return embedding


def _object(config: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    value = config.get(key)
    if not isinstance(value, Mapping):
        raise InvalidInputError("invalid_config", f"{where}: {key} is no object.", "Correct the file.")
    return value


def _tower(config: Mapping[str, Any], table: Mapping[str, Check], known: frozenset[str], where: str) -> dict[str, Any]:
    options = _checked(config, table, known | _INNER.keys(), where)
    for key, inner in _INNER.items():
        if config.get(key):
            options[key] = _checked(_object(config, key, where), inner, frozenset(), f"{where}, {key}")
    return options


def _checked(
    config: Mapping[str, Any], table: Mapping[str, Check], known: frozenset[str], where: str
) -> dict[str, Any]:
    checked = check_fields(config, table, known, where)
    if checked.ignored:
        raise UnsupportedError(
            "unsupported_config",
            f"{where}: {checked.ignored[0][:80]!r} is no field that networks are rebuilt with here.",
            f"Fields that are: {', '.join(sorted(table))}.",
        )
    return checked.taken
