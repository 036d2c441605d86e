"""The closed list of image classifiers of transformers, and which fields of their configurations are taken.

A type that is not here is not built; a field that is not here is not passed on.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from core.models.architectures.fields import (
    DEPTHS,
    EPSILON,
    HEADS,
    KERNEL,
    PADDING,
    RATIO,
    SCALE,
    SIDE,
    STRIDE,
    WIDTH,
    WIDTHS,
    Check,
    choice,
    flag,
    number,
    one_or_several,
    several,
    whole,
)
from core.models.architectures.transformers_fields import (
    ACT_FIELDS,
    BEIT_FIELDS,
    CHANNELS_FIELDS,
    CONVNEXT_FIELDS,
    DINO_FIELDS,
    IMAGE_FIELDS,
    MOBILENET_FIELDS,
    PYRAMID_FIELDS,
    RESNET_FIELDS,
    STAGES_FIELDS,
    STRIDE_OF_OUTPUT,
    SWIN_FIELDS,
    VIT_FIELDS,
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One type of configuration.

    Attributes:
        config: name of the configuration class.
        models: names of the classifier classes with this configuration, the usual one first.
        fields: what is taken of the configuration.
        fixed_size: the weights demand images of the configured size.
        min_side: the smallest image that survives.
    """

    config: str
    models: tuple[str, ...]
    fields: Mapping[str, Check]
    fixed_size: bool = False
    min_side: int = 32


ENTRIES: Mapping[str, Entry] = {
    "beit": Entry("BeitConfig", ("BeitForImageClassification",), BEIT_FIELDS, fixed_size=True),
    "bit": Entry(
        "BitConfig",
        ("BitForImageClassification",),
        {
            **STAGES_FIELDS,
            "embedding_size": WIDTH,
            "layer_type": choice("preactivation", "bottleneck"),
            "global_padding": choice("SAME", "VALID"),
            "num_groups": HEADS,
            "embedding_dynamic_padding": flag,
            "output_stride": STRIDE_OF_OUTPUT,
            "width_factor": whole(1, 8),
        },
    ),
    "convnext": Entry(
        "ConvNextConfig", ("ConvNextForImageClassification",), {**CONVNEXT_FIELDS, "layer_scale_init_value": SCALE}
    ),
    "convnextv2": Entry("ConvNextV2Config", ("ConvNextV2ForImageClassification",), CONVNEXT_FIELDS),
    "cvt": Entry(
        "CvtConfig",
        ("CvtForImageClassification",),
        {
            **CHANNELS_FIELDS,
            "patch_sizes": several(KERNEL),
            "patch_stride": several(STRIDE),
            "patch_padding": several(PADDING),
            "embed_dim": WIDTHS,
            "num_heads": several(HEADS),
            "depth": DEPTHS,
            "mlp_ratio": several(RATIO),
            "qkv_bias": several(flag),
            "cls_token": several(flag),
            "qkv_projection_method": several(choice("dw_bn", "avg", "linear")),
            "kernel_qkv": several(KERNEL),
            "padding_kv": several(PADDING),
            "stride_kv": several(STRIDE),
            "padding_q": several(PADDING),
            "stride_q": several(STRIDE),
            "layer_norm_eps": EPSILON,
        },
    ),
    "data2vec-vision": Entry(
        "Data2VecVisionConfig", ("Data2VecVisionForImageClassification",), BEIT_FIELDS, fixed_size=True
    ),
    "deit": Entry(
        "DeiTConfig",
        ("DeiTForImageClassification", "DeiTForImageClassificationWithTeacher"),
        VIT_FIELDS,
        fixed_size=True,
    ),
    "dinov2": Entry("Dinov2Config", ("Dinov2ForImageClassification",), DINO_FIELDS),
    "dinov2_with_registers": Entry(
        "Dinov2WithRegistersConfig", ("Dinov2WithRegistersForImageClassification",), DINO_FIELDS
    ),
    "efficientnet": Entry(
        "EfficientNetConfig",
        ("EfficientNetForImageClassification",),
        {
            **IMAGE_FIELDS,
            **ACT_FIELDS,
            "width_coefficient": number(0.05, 8.0),
            "depth_coefficient": number(0.05, 8.0),
            "depth_divisor": whole(1, 64),
            "kernel_sizes": several(KERNEL),
            "in_channels": WIDTHS,
            "out_channels": WIDTHS,
            "depthwise_padding": lambda value: several(whole(0, 64))(value) if value else [],
            "strides": several(STRIDE),
            "num_block_repeats": DEPTHS,
            "expand_ratios": several(whole(1, 64)),
            "squeeze_expansion_ratio": number(0.0, 8.0),
            "hidden_dim": WIDTH,
            "pooling_type": choice("mean", "max"),
            "batch_norm_eps": EPSILON,
        },
    ),
    "focalnet": Entry(
        "FocalNetConfig",
        ("FocalNetForImageClassification",),
        {
            **STAGES_FIELDS,
            "image_size": SIDE,
            "patch_size": SIDE,
            "embed_dim": WIDTH,
            "use_conv_embed": flag,
            "focal_levels": several(whole(1, 16)),
            "focal_windows": several(KERNEL),
            "mlp_ratio": RATIO,
            "use_layerscale": flag,
            "layerscale_value": SCALE,
            "use_post_layernorm": flag,
            "use_post_layernorm_in_modulation": flag,
            "normalize_modulator": flag,
            "layer_norm_eps": EPSILON,
        },
    ),
    "hgnet_v2": Entry(
        "HGNetV2Config",
        ("HGNetV2ForImageClassification",),
        {
            **STAGES_FIELDS,
            "embedding_size": WIDTH,
            "stem_channels": WIDTHS,
            "stem_strides": several(one_or_several(STRIDE, 2)),
            "stage_in_channels": WIDTHS,
            "stage_mid_channels": WIDTHS,
            "stage_out_channels": WIDTHS,
            "stage_num_blocks": DEPTHS,
            "stage_downsample": several(flag),
            "stage_downsample_strides": several(one_or_several(STRIDE, 2)),
            "stage_light_block": several(flag),
            "stage_kernel_size": several(KERNEL),
            "stage_numb_of_layers": DEPTHS,
            "use_learnable_affine_block": flag,
        },
    ),
    "hiera": Entry(
        "HieraConfig",
        ("HieraForImageClassification",),
        {
            **IMAGE_FIELDS,
            **ACT_FIELDS,
            "embed_dim": WIDTH,
            "patch_size": several(KERNEL, 2),
            "patch_stride": several(STRIDE, 2),
            "patch_padding": several(PADDING, 2),
            "mlp_ratio": RATIO,
            "depths": DEPTHS,
            "num_heads": several(HEADS),
            "embed_dim_multiplier": number(1.0, 8.0),
            "num_query_pool": whole(0, 8),
            "query_stride": several(STRIDE, 2),
            "masked_unit_size": several(STRIDE, 2),
            "masked_unit_attention": several(flag),
            "layer_norm_init": SCALE,
            "layer_norm_eps": EPSILON,
        },
        fixed_size=True,
    ),
    "ijepa": Entry("IJepaConfig", ("IJepaForImageClassification",), VIT_FIELDS, fixed_size=True),
    "levit": Entry(
        "LevitConfig",
        ("LevitForImageClassification", "LevitForImageClassificationWithTeacher"),
        {
            **IMAGE_FIELDS,
            "kernel_size": KERNEL,
            "stride": STRIDE,
            "padding": PADDING,
            "patch_size": SIDE,
            "hidden_sizes": WIDTHS,
            "num_attention_heads": several(HEADS),
            "depths": DEPTHS,
            "key_dim": WIDTHS,
            "mlp_ratio": several(whole(1, 64)),
            "attention_ratio": several(whole(1, 64)),
        },
        fixed_size=True,
    ),
    "mobilenet_v1": Entry("MobileNetV1Config", ("MobileNetV1ForImageClassification",), MOBILENET_FIELDS),
    "mobilenet_v2": Entry(
        "MobileNetV2Config",
        ("MobileNetV2ForImageClassification",),
        {
            **MOBILENET_FIELDS,
            "depth_divisible_by": whole(1, 64),
            "expand_ratio": RATIO,
            "output_stride": STRIDE_OF_OUTPUT,
            "first_layer_is_expansion": flag,
            "finegrained_output": flag,
        },
    ),
    "mobilevit": Entry(
        "MobileViTConfig",
        ("MobileViTForImageClassification",),
        {
            **IMAGE_FIELDS,
            **ACT_FIELDS,
            "patch_size": SIDE,
            "hidden_sizes": WIDTHS,
            "neck_hidden_sizes": WIDTHS,
            "num_attention_heads": HEADS,
            "mlp_ratio": RATIO,
            "expand_ratio": RATIO,
            "conv_kernel_size": KERNEL,
            "output_stride": STRIDE_OF_OUTPUT,
            "layer_norm_eps": EPSILON,
            "qkv_bias": flag,
        },
    ),
    "mobilevitv2": Entry(
        "MobileViTV2Config",
        ("MobileViTV2ForImageClassification",),
        {
            **IMAGE_FIELDS,
            **ACT_FIELDS,
            "patch_size": SIDE,
            "expand_ratio": RATIO,
            "conv_kernel_size": KERNEL,
            "output_stride": STRIDE_OF_OUTPUT,
            "layer_norm_eps": EPSILON,
            "n_attn_blocks": DEPTHS,
            "base_attn_unit_dims": WIDTHS,
            "width_multiplier": number(0.05, 8.0),
            "ffn_multiplier": whole(1, 64),
        },
    ),
    "poolformer": Entry(
        "PoolFormerConfig",
        ("PoolFormerForImageClassification",),
        {
            **STAGES_FIELDS,
            "patch_size": SIDE,
            "stride": STRIDE,
            "pool_size": KERNEL,
            "mlp_ratio": RATIO,
            "patch_sizes": several(KERNEL),
            "strides": several(STRIDE),
            "padding": several(PADDING),
            "num_encoder_blocks": whole(1, 8),
            "use_layer_scale": flag,
            "layer_scale_init_value": SCALE,
        },
    ),
    "pvt": Entry(
        "PvtConfig",
        ("PvtForImageClassification",),
        {**PYRAMID_FIELDS, "image_size": SIDE, "sequence_reduction_ratios": several(STRIDE), "qkv_bias": flag},
        fixed_size=True,
    ),
    "pvt_v2": Entry(
        "PvtV2Config",
        ("PvtV2ForImageClassification",),
        {
            **PYRAMID_FIELDS,
            "image_size": SIDE,
            "sr_ratios": several(STRIDE),
            "qkv_bias": flag,
            "linear_attention": flag,
        },
    ),
    "regnet": Entry(
        "RegNetConfig",
        ("RegNetForImageClassification",),
        {**RESNET_FIELDS, "groups_width": WIDTH, "layer_type": choice("x", "y")},
    ),
    "resnet": Entry(
        "ResNetConfig",
        ("ResNetForImageClassification",),
        {**RESNET_FIELDS, "layer_type": choice("basic", "bottleneck"), "downsample_in_bottleneck": flag},
    ),
    "segformer": Entry(
        "SegformerConfig", ("SegformerForImageClassification",), {**PYRAMID_FIELDS, "sr_ratios": several(STRIDE)}
    ),
    "swiftformer": Entry(
        "SwiftFormerConfig",
        ("SwiftFormerForImageClassification",),
        {
            **IMAGE_FIELDS,
            **ACT_FIELDS,
            "depths": DEPTHS,
            "embed_dims": WIDTHS,
            "mlp_ratio": whole(1, 64),
            "downsamples": several(flag),
            "down_patch_size": SIDE,
            "down_stride": STRIDE,
            "down_pad": PADDING,
            "use_layer_scale": flag,
            "layer_scale_init_value": SCALE,
            "batch_norm_eps": EPSILON,
        },
    ),
    "swin": Entry("SwinConfig", ("SwinForImageClassification",), SWIN_FIELDS, fixed_size=True),
    "swinv2": Entry(
        "Swinv2Config",
        ("Swinv2ForImageClassification",),
        {**SWIN_FIELDS, "pretrained_window_sizes": several(whole(0, 64))},
        fixed_size=True,
    ),
    "vit": Entry("ViTConfig", ("ViTForImageClassification",), VIT_FIELDS, fixed_size=True),
    "vit_msn": Entry("ViTMSNConfig", ("ViTMSNForImageClassification",), VIT_FIELDS, fixed_size=True),
}
