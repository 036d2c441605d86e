"""Networks of timm, built from the checked fields of a repository's config.json.

Names: see `timm_zoo`. timm is imported on first use: it takes seconds.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import nn

from core.errors import InvalidInputError, UnsupportedError
from core.models.architectures.building import refusals
from core.models.architectures.fields import (
    DEPTH,
    EPSILON,
    HEADS,
    KERNEL,
    RATIO,
    SCALE,
    SIDE,
    WIDTH,
    Check,
    check_fields,
    choice,
    flag,
    number,
    one_or_several,
    several,
    whole,
)

_NAME = re.compile(r"[a-z0-9_]{1,80}")
_MAYBE_DEPTHS, _MAYBE_WIDTHS, _MAYBE_HEADS = (one_or_several(check) for check in (DEPTH, WIDTH, HEADS))
#: Arguments of a network that are passed on. Nothing that names a file, an address or a function.
_ARGUMENTS: Mapping[str, Check] = {
    "act_layer": choice("gelu", "gelu_tanh", "hard_swish", "leaky_relu", "mish", "quick_gelu", "relu", "relu6", "silu"),
    "base_width": WIDTH,
    "cardinality": whole(1, 1_024),
    "channels": _MAYBE_WIDTHS,
    "class_token": flag,
    "conv_mlp": flag,
    "depth": _MAYBE_DEPTHS,
    "depths": several(DEPTH),
    "dim": WIDTH,
    "dims": several(WIDTH),
    "dynamic_img_size": flag,
    "embed_dim": _MAYBE_WIDTHS,
    "embed_dims": several(WIDTH),
    "fc_norm": flag,
    "final_norm": flag,
    "global_pool": choice("", "avg", "max", "avgmax", "catavgmax", "token", "map", "fast", "prr"),
    "head_hidden_size": WIDTH,
    "hidden_size": WIDTH,
    "img_size": SIDE,
    "init_values": SCALE,
    "kernel_size": KERNEL,
    "kernel_sizes": one_or_several(KERNEL),
    "layers": several(DEPTH),
    "ls_init_value": SCALE,
    "mlp_ratio": one_or_several(RATIO),
    "mlp_ratios": several(RATIO),
    "no_embed_class": flag,
    "norm_eps": EPSILON,
    "num_blocks": DEPTH,
    "num_heads": _MAYBE_HEADS,
    "output_stride": whole(1, 32),
    "patch_size": one_or_several(whole(1, 256), 2),
    "pos_embed": choice("", "none", "learn"),
    "pre_norm": flag,
    "qk_norm": flag,
    "qkv_bias": flag,
    "reg_tokens": whole(0, 64),
    "stem_type": choice("", "patch", "overlap", "overlap_tiered", "overlap_act", "deep", "deep_tiered"),
    "stem_width": WIDTH,
    "strict_img_size": flag,
    "use_grn": flag,
    "width": WIDTH,
    "width_factor": number(0.05, 16.0),
    "widths": several(WIDTH),
    "window_size": one_or_several(whole(1, 64), 2),
}
#: Arguments that matter in training only, or are dealt with elsewhere.
_KNOWN_ARGUMENTS_TEXT = """
attn_drop_rate drop_block_rate drop_path drop_path_rate drop_rate head_init_scale in_chans num_classes
patch_drop_rate pos_drop_rate proj_drop_rate weight_init zero_init_last
"""
_KNOWN_ARGUMENTS = frozenset(_KNOWN_ARGUMENTS_TEXT.split())


def check_name(name: Any, where: str) -> str:
    """The name of a network of the installed timm.

    Raises:
        InvalidInputError: `invalid_config`: not a name.
        UnsupportedError: `unsupported_architecture`: timm has no such network.
    """
    if not isinstance(name, str):
        raise InvalidInputError("invalid_config", f"{where}: architecture is not a name.", "Correct the file.")
    import timm

    if not _NAME.fullmatch(name) or not timm.is_model(name):
        raise UnsupportedError(
            "unsupported_architecture",
            f"{where}: timm has no network called {name[:80]!r}.",
            "Name one that timm.list_models() lists.",
        )
    return name


def check_arguments(arguments: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The arguments a network is built with.

    Raises:
        InvalidInputError: `invalid_config`.
        UnsupportedError: `unsupported_config`: a value outside the limits, or an argument that is not passed on:
            without it another network would be built than the one the weights are of.
    """
    checked = check_fields(arguments, _ARGUMENTS, _KNOWN_ARGUMENTS, where)
    if checked.ignored:
        raise UnsupportedError(
            "unsupported_config",
            f"{where}: {checked.ignored[0][:80]!r} is no argument that networks are rebuilt with here.",
            f"Arguments that are: {', '.join(sorted(_ARGUMENTS))}.",
        )
    return {key: tuple(value) if isinstance(value, list) else value for key, value in checked.taken.items()}


def build(name: str, arguments: Mapping[str, Any], num_classes: int, in_channels: int) -> nn.Module:
    """The network with fresh weights.

    Raises:
        UnsupportedError: `unsupported_config`: the network does not take these arguments.
    """
    import timm

    check_name(name, "timm")
    options = check_arguments(arguments, "timm")
    with refusals("timm", name):
        module: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=num_classes, in_chans=in_channels, **options
        )
    return module
