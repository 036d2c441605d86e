"""Groups of fields that configurations of transformers share."""

from core.models.architectures.fields import (
    DEPTH,
    DEPTHS,
    EPSILON,
    HEADS,
    KERNEL,
    RATIO,
    SCALE,
    SIDE,
    STRIDE,
    WIDTH,
    WIDTHS,
    choice,
    flag,
    number,
    several,
    whole,
)

#: Activations by the names of transformers; none has weights.
ACTIVATION = choice(
    "gelu",
    "gelu_10",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_pytorch_tanh",
    "hardswish",
    "leaky_relu",
    "linear",
    "mish",
    "quick_gelu",
    "relu",
    "relu6",
    "sigmoid",
    "silu",
    "swish",
    "tanh",
)
#: Known fields without an effect on the forward pass in evaluation mode, or dealt with elsewhere.
_KNOWN_TEXT = """
_attn_implementation _attn_implementation_autoset _attn_implementation_internal _name_or_path _num_labels
_out_features _out_indices add_fpn apply_layernorm architectures aspp_dropout_prob aspp_out_channels atrous_rates
attention_probs_dropout_prob attn_dropout attention_drop_rate attn_implementation auxiliary_channels
auxiliary_concat_input auxiliary_loss_weight auxiliary_num_convs batch_norm_momentum chunk_size_feed_forward
classifier_dropout_prob decoder_depth decoder_hidden_size decoder_num_heads down_ops drop_connect_rate
drop_conv_encoder_rate drop_mlp_rate drop_path_rate drop_rate dropout_rate dtype encoder_stride ffn_dropout
finetuning_task hidden_dropout_prob id2label initializer_factor initializer_range interpolate_mode
is_encoder_decoder label2id mask_ratio model_type normalize_pixel_loss num_labels out_features out_indices
output_attentions output_hidden_states path_norm pool_scales pooler_act pooler_output_size problem_type
reshape_hidden_states reshape_last_stage return_dict hidden_size num_hidden_layers num_layers
semantic_loss_ignore_index stage_names task_specific_params tie_word_embeddings torch_dtype torchscript
transformers_version use_auxiliary_head use_bfloat16 use_cache vocab_size
"""
KNOWN = frozenset(_KNOWN_TEXT.split())


CHANNELS_FIELDS = {"num_channels": whole(1, 3)}
IMAGE_FIELDS = {**CHANNELS_FIELDS, "image_size": SIDE}
ACT_FIELDS = {"hidden_act": ACTIVATION}
PATCHES_FIELDS = {
    **IMAGE_FIELDS,
    **ACT_FIELDS,
    "patch_size": SIDE,
    "hidden_size": WIDTH,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": HEADS,
    "layer_norm_eps": EPSILON,
}
VIT_FIELDS = {**PATCHES_FIELDS, "intermediate_size": WIDTH, "qkv_bias": flag}
BEIT_FIELDS = {
    **PATCHES_FIELDS,
    "intermediate_size": WIDTH,
    "use_mask_token": flag,
    "use_absolute_position_embeddings": flag,
    "use_relative_position_bias": flag,
    "use_shared_relative_position_bias": flag,
    "layer_scale_init_value": SCALE,
    "use_mean_pooling": flag,
}
DINO_FIELDS = {
    **PATCHES_FIELDS,
    "mlp_ratio": whole(1, 64),
    "qkv_bias": flag,
    "layerscale_value": SCALE,
    "use_swiglu_ffn": flag,
    "use_mask_token": flag,
    "num_register_tokens": whole(0, 64),
}
SWIN_FIELDS = {
    **IMAGE_FIELDS,
    **ACT_FIELDS,
    "patch_size": SIDE,
    "embed_dim": WIDTH,
    "depths": DEPTHS,
    "num_heads": several(HEADS),
    "window_size": whole(1, 64),
    "mlp_ratio": RATIO,
    "qkv_bias": flag,
    "use_absolute_embeddings": flag,
    "layer_norm_eps": EPSILON,
}
STAGES_FIELDS = {**CHANNELS_FIELDS, **ACT_FIELDS, "hidden_sizes": WIDTHS, "depths": DEPTHS}
CONVNEXT_FIELDS = {
    **STAGES_FIELDS,
    "patch_size": SIDE,
    "num_stages": whole(1, 8),
    "image_size": SIDE,
    "layer_norm_eps": EPSILON,
}
RESNET_FIELDS = {**STAGES_FIELDS, "embedding_size": WIDTH, "downsample_in_first_stage": flag}
PYRAMID_FIELDS = {
    **STAGES_FIELDS,
    "num_encoder_blocks": whole(1, 8),
    "patch_sizes": several(KERNEL),
    "strides": several(STRIDE),
    "num_attention_heads": several(HEADS),
    "mlp_ratios": several(whole(1, 64)),
    "layer_norm_eps": EPSILON,
}
MOBILENET_FIELDS = {
    **IMAGE_FIELDS,
    **ACT_FIELDS,
    "depth_multiplier": number(0.05, 8.0),
    "min_depth": whole(1, 64),
    "tf_padding": flag,
    "layer_norm_eps": EPSILON,
}
STRIDE_OF_OUTPUT = whole(8, 32)
