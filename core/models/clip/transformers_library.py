"""CLIP and SigLIP of transformers, built from the checked fields of a config.json.

transformers is imported on first use: it takes seconds. Nothing here reads a file or asks a hub.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from core.errors import InvalidInputError, UnsupportedError
from core.models.architectures.building import refusals
from core.models.architectures.fields import (
    DEPTH,
    EPSILON,
    HEADS,
    WIDTH,
    Check,
    Checked,
    check_fields,
    flag,
    number,
    whole,
)
from core.models.architectures.transformers_fields import ACTIVATION, KNOWN
from core.models.architectures.transformers_zoo import network_keys
from core.models.clip.tokenizers import TokenizerRules
from core.models.clip.towers import TransformersImageTower

_TOKENS = whole(0, 2_000_000)
_TOWER: Mapping[str, Check] = {
    "hidden_act": ACTIVATION,
    "hidden_size": WIDTH,
    "intermediate_size": WIDTH,
    "layer_norm_eps": EPSILON,
    "num_attention_heads": HEADS,
    "num_hidden_layers": DEPTH,
}
_VISION: Mapping[str, Check] = {
    **_TOWER,
    "image_size": whole(1, 2_048),
    "num_channels": whole(3, 3),
    "patch_size": whole(1, 256),
}
_TEXT: Mapping[str, Check] = {
    **_TOWER,
    "bos_token_id": _TOKENS,
    "eos_token_id": _TOKENS,
    "max_position_embeddings": whole(1, 8_192),
    "pad_token_id": _TOKENS,
    "vocab_size": whole(2, 2_000_000),
}
#: Fields that matter while texts are written, or in training only.
_WRITING_TEXT = """
add_cross_attention attention_dropout bad_words_ids begin_suppress_tokens cross_attention_hidden_size
decoder_start_token_id
diversity_penalty do_sample dropout early_stopping encoder_no_repeat_ngram_size exponential_decay_length_penalty
forced_bos_token_id forced_eos_token_id is_decoder length_penalty logit_scale_init_value max_length min_length
no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores prefix projection_dim pruned_heads
remove_invalid_values repetition_penalty return_dict_in_generate sep_token_id suppress_tokens temperature tf_legacy_loss
tie_encoder_decoder tokenizer_class top_k top_p typical_p
"""
_KNOWN = KNOWN | frozenset(_WRITING_TEXT.split())
_NESTED = frozenset({"text_config", "vision_config", "text_config_dict", "vision_config_dict"})
_HINT = "Models of images and texts that can be scanned: clip and siglip of transformers, and those of open_clip."


@dataclass(frozen=True, slots=True)
class _Entry:
    """One type of configuration.

    Attributes:
        config: name of the configuration class.
        model: name of the network's class.
        vision, text: fields beyond those that all towers have.
        projection: the embedding's size is a field of its own.
        size, context, vocabulary: what the library takes where a configuration says nothing.
        clean: how texts are prepared, see tokenizers.CLEANINGS.
    """

    config: str
    model: str
    vision: Mapping[str, Check]
    text: Mapping[str, Check]
    projection: bool
    context: int
    vocabulary: int
    clean: str


_ENTRIES: Mapping[str, _Entry] = {
    "clip": _Entry("CLIPConfig", "CLIPModel", {}, {}, True, 77, 49_408, "none"),
    "siglip": _Entry(
        "SiglipConfig",
        "SiglipModel",
        {"vision_use_head": flag},
        {"projection_size": WIDTH},
        False,
        64,
        32_000,
        "canonicalize",
    ),
}
_IMAGE_SIZE = 224


class Transformers:
    """Implements `core.models.clip.library.Library`."""

    #: Buffers that old files hold.
    spare: tuple[str, ...] = (r"\.position_ids$",)

    def check(self, config: Mapping[str, Any], where: str) -> Checked:
        """The fields of config.json.

        Raises:
            InvalidInputError: `invalid_config`.
            UnsupportedError: `unsupported_config`, `unsupported_architecture`: another type.
        """
        entry = _entry(config, where)
        top = {"projection_dim": WIDTH, "logit_scale_init_value": number(-1e3, 1e3)} if entry.projection else {}
        found = check_fields(config, top, _KNOWN | _NESTED, where)
        taken: dict[str, Any] = {"model_type": config["model_type"], **found.taken}
        ignored = list(found.ignored)
        for key, table, more in (("vision_config", _VISION, entry.vision), ("text_config", _TEXT, entry.text)):
            tower = check_fields(_merged(config, key, where), {**table, **more}, _KNOWN, f"{where}, {key}")
            taken[key] = tower.taken
            ignored += [f"{key}.{field}" for field in tower.ignored]
        return Checked(taken, tuple(ignored))

    def tokenizer(self, config: Mapping[str, Any]) -> TokenizerRules:
        """Of a checked configuration."""
        entry = _entry(config, "")
        text = config["text_config"]
        return TokenizerRules(
            context=text.get("max_position_embeddings", entry.context),
            size=text.get("vocab_size", entry.vocabulary),
            own=True,
            clean=entry.clean,
        )

    def build(self, options: Mapping[str, Any]) -> nn.Module:
        """`transformers.CLIPModel` or `SiglipModel` with fresh weights."""
        import transformers

        entry = _entry(options, "")
        arguments = {key: dict(value) if isinstance(value, Mapping) else value for key, value in options.items()}
        del arguments["model_type"]
        if entry.projection:  # the towers' own are not used by the whole network
            for tower in ("text_config", "vision_config"):
                arguments[tower]["projection_dim"] = arguments.get("projection_dim", 512)
        with refusals("transformers", entry.model):
            # eager attention: fused kernels do not give the same gradients twice on every device
            config = getattr(transformers, entry.config)(**arguments, attn_implementation="eager")
            module: nn.Module = getattr(transformers, entry.model)(config)
        return module

    def network_keys(self, module: nn.Module, keys: Iterable[str]) -> dict[str, str]:
        """As transformers tells old names from new ones."""
        return network_keys(module, keys)

    def name(self, options: Mapping[str, Any]) -> str:
        """The type of configuration."""
        return str(options["model_type"])

    def image_size(self, options: Mapping[str, Any]) -> tuple[int, int]:
        """Of the image tower."""
        side = options["vision_config"].get("image_size", _IMAGE_SIZE)
        return side, side

    def image_tower(self, network: Any) -> nn.Module:
        """`vision_model` and its projection."""
        return TransformersImageTower(network)

    def embed(self, network: Any, tokens: Tensor) -> Tensor:
        """(N, L) -> (N, D).

        Without a mask for what pads a text: CLIP looks at what stands before, and SigLIP was trained that way.
        """
        embedding: Tensor = network.get_text_features(input_ids=tokens).pooler_output
        return embedding


def _entry(config: Mapping[str, Any], where: str) -> _Entry:
    model_type = str(config.get("model_type"))
    if model_type not in _ENTRIES:
        raise UnsupportedError(
            "unsupported_architecture", f"{where}: models of type {model_type[:80]!r} are not known here.", _HINT
        )
    return _ENTRIES[model_type]


def _merged(config: Mapping[str, Any], key: str, where: str) -> Mapping[str, Any]:
    """The fields of a tower: old files hold them twice, and the second place counts."""
    values: dict[str, Any] = {}
    for name in (key, f"{key}_dict"):
        part = config.get(name) or {}
        if not isinstance(part, Mapping):
            raise InvalidInputError("invalid_config", f"{where}: {name} is no object.", "Correct the file.")
        values |= part
    return values
