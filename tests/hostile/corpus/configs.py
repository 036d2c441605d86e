"""Configurations that would make a loader fetch or run something (R7)."""

import json
from typing import Any

#: (name, content, code, words)
CONFIGS: list[tuple[str, Any, str, tuple[str, ...]]] = [
    ("auto_map", {"auto_map": {"AutoModel": "modeling.Net"}}, "unsafe_config_code", ("auto_map",)),
    (
        "auto_map of another repository",
        {"auto_map": {"AutoModel": "evil/repo--m.Net"}},
        "unsafe_config_code",
        ("auto_map",),
    ),
    (
        "auto_map deep inside",
        {"text_config": {"auto_map": {"AutoConfig": "x.Y"}}},
        "unsafe_config_code",
        ("text_config.auto_map",),
    ),
    ("trust_remote_code", {"trust_remote_code": True}, "unsafe_config_code", ("trust_remote_code",)),
    ("trust_remote_code as a text", {"trust_remote_code": "true"}, "unsafe_config_code", ()),
    ("trust_remote_code as a number", {"trust_remote_code": 1}, "unsafe_config_code", ()),
    (
        "tokenizer_kwargs",
        {"model_cfg": {"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}},
        "unsafe_config_code",
        ("tokenizer_kwargs",),
    ),
    ("custom_load", {"pretrained_cfg": {"custom_load": True}}, "unsafe_config_code", ("custom_load",)),
    ("custom_load by name", {"pretrained_cfg": {"custom_load": "hf"}}, "unsafe_config_code", ()),
    ("custom_pipelines", {"custom_pipelines": {"x": {"impl": "x.Y"}}}, "unsafe_config_code", ("custom_pipelines",)),
    ("a kernel repository", {"_attn_implementation": "evil/kernel"}, "unsafe_config_code", ("evil/kernel",)),
    ("a kernel repository at a revision", {"attn_implementation": "evil/kernel@main:f"}, "unsafe_config_code", ()),
    (
        "a kernel repository within",
        {"_attn_implementation": {"": "eager", "vision_config": "evil/k"}},
        "unsafe_config_code",
        (),
    ),
    ("an internal kernel", {"_attn_implementation_internal": "evil/kernel"}, "unsafe_config_code", ()),
    ("kernels of the Hub", {"use_kernels": True}, "unsafe_config_code", ("use_kernels",)),
    ("weights from a page", {"pretrained_cfg": {"url": "http://127.0.0.1/x.pth"}}, "unsafe_config_source", ("url",)),
    ("weights from a path", {"pretrained_cfg": {"file": "/etc/passwd"}}, "unsafe_config_source", ("file",)),
    (
        "weights of another repository",
        {"pretrained_cfg": {"hf_hub_id": "evil/repo"}},
        "unsafe_config_source",
        ("hf_hub_id",),
    ),
    (
        "a text model from anywhere",
        {"text_cfg": {"hf_model_name": "evil/bert"}},
        "unsupported_text_model",
        ("evil/bert",),
    ),
    ("a key twice", b'{"a": 1, "a": 2}', "invalid_config", ("twice",)),
    ("NaN", b'{"a": NaN}', "invalid_config", ("NaN",)),
    ("an infinite number", b'{"a": 1e999}', "invalid_config", ("too large",)),
    ("33 deep", b'{"a":' * 33 + b"1" + b"}" * 33, "invalid_config", ("deep",)),
    ("100,000 deep", b"[" * 100_000, "invalid_config", ("deep",)),
    ("two megabytes", b'{"a": "' + b"x" * (2 << 20) + b'"}', "invalid_config", ("bytes of JSON",)),
    ("a list", b"[1, 2]", "invalid_config", ("list",)),
    ("no UTF-8", b'{"a": "\xff"}', "invalid_config", ("UTF-8",)),
    ("UTF-16", json.dumps({"a": 1}).encode("utf-16"), "invalid_config", ()),
    ("a byte order mark", b'\xef\xbb\xbf{"a": 1}', "invalid_config", ()),
    ("half a character", b'{"a": "\\ud800"}', "invalid_config", ()),
    ("cut off", b'{"a": {"b": [1, 2', "invalid_config", ("JSON",)),
    ("nothing", b"", "invalid_config", ()),
    ("a number of 10,000 digits", b'{"a": ' + b"9" * 10_000 + b"}", "invalid_config", ("absurd",)),
]
HARMLESS: list[tuple[str, dict[str, Any]]] = [
    ("switched off", {"trust_remote_code": False, "custom_load": False, "auto_map": None, "use_kernels": False}),
    ("attention", {"_attn_implementation": "sdpa", "_attn_implementation_autoset": True, "attn_implementation": None}),
    ("attention within", {"_attn_implementation": {"": "eager", "vision_config": "sdpa"}}),
    ("no source", {"pretrained_cfg": {"url": "", "file": None, "hf_hub_id": None, "source": "hf-hub"}}),
    ("a text model", {"text_cfg": {"hf_model_name": "roberta-base", "hf_tokenizer_name": "roberta-base"}}),
    ("a tokenizer by name, which nobody fetches", {"text_cfg": {"hf_tokenizer_name": "evil/bert"}}),
    ("labels", {"id2label": {"0": "url", "1": "auto_map", "2": "http://x"}, "file_size": 3, "urls": ["x"]}),
]
