"""JSON files of a repository: strict parsing, and values that would make a loader fetch or run foreign code."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from core.models.safety.limits import DEFAULT, Limits
from core.models.safety.refusals import Subject, shown

# Possessive, and the closing quote may be missing: a text without an end is one token, not a search from every quote.
_TOKENS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[\[\]{}]', re.DOTALL)
_NOT_CODE = "Remove it: Assay builds networks from its own table and runs no code of a repository."

#: Values that switch something off, whatever way they are written.
_OFF: tuple[Any, ...] = (None, False, 0, "", "false", "False", "0", "no", "off")
_ATTENTION = frozenset(
    {"eager", "sdpa", "flash_attention_2", "flash_attention_3", "flash_attention_4", "flex_attention"}
)
#: Keys that, switched on, make a library run code that came with the weights.
_SWITCHES = frozenset({"trust_remote_code", "custom_load", "use_kernels"})
#: Keys whose mere presence names code.
_CODE = frozenset({"auto_map", "custom_pipelines", "kernel_config"})
#: Keys that name another place to take weights from.
_SOURCES = frozenset({"url", "file", "hf_hub_id", "hf_hub"})
#: Keys that name a network in another repository, and those that are well known. Tokenizers are never taken by name.
_NAMES = frozenset({"hf_model_name"})
_KNOWN_NAMES = frozenset(
    {
        "bert-base-uncased", "roberta-base", "xlm-roberta-base", "xlm-roberta-large", "camembert-base",
        "google/mt5-base", "google/mt5-xl", "openai/clip-vit-base-patch32", "openai/clip-vit-large-patch14",
        "timm/ViT-B-16-SigLIP", "timm/ViT-B-16-SigLIP-i18n-256", "timm/ViT-B-16-SigLIP2",
    }
)  # fmt: skip


def parse_config(data: bytes, name: str, limits: Limits = DEFAULT) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        data: the whole file.
        name: what the file is called, for messages.

    Raises:
        InvalidInputError: `invalid_config`: too long, too deep, no UTF-8, no JSON, no object, a key twice, NaN or
            infinity.
    """
    return parse_object(data, Subject(name), "invalid_config", limits.config_bytes, limits.depth)


def parse_object(data: bytes, subject: Subject, code: str, max_bytes: int, max_depth: int) -> dict[str, Any]:
    """`parse_config` with the caller's error code and bounds; trailing spaces are allowed."""
    hint = "Write it as plain JSON: UTF-8, an object, no key twice, finite numbers."
    if len(data) > max_bytes:
        raise subject.invalid(code, f"{len(data)} bytes of JSON; at most {max_bytes} are read.", hint)
    if _depth(data) > max_depth:
        raise subject.invalid(code, f"The JSON is nested more than {max_depth} deep.", hint)
    try:
        value = json.loads(data.decode(), object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
        for text in _texts(value):
            text.encode()  # a lone surrogate can be written in JSON, but nowhere else
    except _Refusal as refusal:
        raise subject.invalid(code, str(refusal), hint) from refusal
    except UnicodeError as error:
        raise subject.invalid(code, "The JSON is not UTF-8 text.", hint) from error
    except json.JSONDecodeError as error:
        raise subject.invalid(code, f"Not JSON: {error.msg} at character {error.pos}.", hint) from error
    except (ValueError, RecursionError) as error:
        raise subject.invalid(code, "The JSON holds a number of absurd length, or no end.", hint) from error
    if not isinstance(value, dict):
        raise subject.invalid(code, f"The JSON is a {type(value).__name__}, not an object.", hint)
    return value


def check_config(config: dict[str, Any], name: str) -> None:
    """Refuses values that would make a library fetch or run foreign code; Assay itself passes none of them on.

    Args:
        config: as `parse_config` gives it.
        name: what the file is called, for messages.

    Raises:
        UnsafeError: `unsafe_config_code` (auto_map, trust_remote_code, custom_load, kernels, pipelines),
            `unsafe_config_source` (weights from somewhere else).
        UnsupportedError: `unsupported_text_model` (a text model that is not at hand).
    """
    subject = Subject(name)
    for path, key, value in _entries(config, ""):
        code, reason = _objection(key, value)
        if not reason:
            continue
        detail = f"{shown(path)} is {shown(json.dumps(value))}, {reason}."
        if code.startswith("unsafe_"):
            raise subject.unsafe(code, detail, _NOT_CODE)
        raise subject.unsupported(code, detail, _NOT_CODE)


def _objection(key: str, value: Any) -> tuple[str, str]:
    """(code, reason); empty if there is nothing against the value."""
    if key in _CODE and value is not None:
        return "unsafe_config_code", "which names code to run"
    if key in _SWITCHES and not _is_off(value):
        return "unsafe_config_code", "which lets a library run foreign code"
    if key.lstrip("_").startswith("attn_implementation") and any(text not in _ATTENTION for text in _leaves(value)):
        return "unsafe_config_code", "which is a kernel to download, not a known kind"
    if key in _SOURCES and not _is_off(value):
        return "unsafe_config_source", "which means weights from somewhere else"
    if key in _NAMES and not _is_off(value) and value not in _KNOWN_NAMES:
        return "unsupported_text_model", "which is none of the text models known here"
    return "", ""


class _Refusal(ValueError):
    """A reason in plain words."""


def _is_off(value: Any) -> bool:
    return any(value is off or (type(value) is type(off) and value == off) for off in _OFF)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise _Refusal(f"The key {shown(twice)!r} appears twice.")
    return result


def _no_constant(text: str) -> Any:
    raise _Refusal(f"{text} is not JSON.")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refusal(f"The number {shown(text)} is too large.")
    return value


def _depth(data: bytes) -> int:
    deepest = depth = 0
    for token in _TOKENS.finditer(data):
        first = data[token.start()]
        if first in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif first in b"]}":
            depth -= 1
    return deepest


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield key
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _leaves(value: Any) -> Iterator[str]:
    """The texts among the values, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _leaves(item)


def _entries(value: Any, path: str) -> Iterator[tuple[str, str, Any]]:
    """(dotted path, key, value) of every entry of every object."""
    if isinstance(value, dict):
        for key, item in value.items():
            inner = f"{path}.{key}" if path else key
            yield inner, key, item
            yield from _entries(item, inner)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _entries(item, f"{path}[{index}]")
