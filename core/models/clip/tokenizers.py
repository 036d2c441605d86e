"""From texts to token numbers, with the tokenizer that the model came with: what the parsing child does.

The files are data to the `tokenizers` library: nothing in them names code, and nothing is fetched.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.errors import InvalidInputError, UnsupportedError
from core.models.safety.json_rules import parse_object
from core.models.safety.limits import DEFAULT
from core.models.safety.refusals import Subject

#: The vocabulary of OpenAI's CLIP, whose tokenizer open_clip has at hand.
OPENAI_VOCABULARY = 49_408
TOKENIZER, TOKENIZER_CONFIG, VOCABULARY, MERGES = "tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"
#: The largest in use (256,000 pieces) has 35 MB.
_MAX_BYTES = 64 << 20
_MAX_DEPTH = 16
_OPENAI_CLEANING = "lower"
_CODE = "unsupported_tokenizer"
_WITHOUT = "Images without captions and without a vocabulary can be scanned without a tokenizer."
_HINT = f"Add the tokenizer.json that the model was trained with, or vocab.json and merges.txt. {_WITHOUT}"

#: How texts are prepared before a tokenizer sees them: not at all, or as open_clip does it.
CLEANINGS = ("none", "whitespace", "lower", "canonicalize")
Encode = Callable[[Sequence[str]], list[list[int]]]


@dataclass(frozen=True, slots=True)
class TextTokenizer:
    """Texts to rows of token numbers.

    Attributes:
        context: tokens of a row.
        size: numbers are below this: how many tokens the text tower knows.
        unknown: the number of what is no token; None if everything can be written.
        rows: texts -> numbers, padded to `context` at most.
    """

    context: int
    size: int
    unknown: int | None
    rows: Encode

    def encode(self, texts: Sequence[str]) -> Tensor:
        """(N, L) int64.

        Raises:
            UnsupportedError: `unsupported_tokenizer`: the text tower does not know a token.
        """
        tokens = torch.tensor(self.rows(list(texts)), dtype=torch.int64).reshape(len(texts), self.context)
        if tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.size:
            raise UnsupportedError(
                _CODE,
                f"The tokenizer gives number {int(tokens.max())}; the text tower knows {self.size} tokens.",
                _HINT,
            )
        return tokens


@dataclass(frozen=True, slots=True)
class TokenizerRules:
    """What a model's configuration says about its texts.

    Attributes:
        context: tokens of a text.
        size: how many tokens the text tower knows.
        own: the model names a tokenizer; without its files there is none.
        clean: one of `CLEANINGS`.
        strip_separator: separators become zero.
        unusual: what the configuration asks for that is not done here; empty if nothing.
    """

    context: int
    size: int
    own: bool
    clean: str
    strip_separator: bool = False
    unusual: str = ""


def open_tokenizer(files: Mapping[str, Path], rules: TokenizerRules) -> TextTokenizer:
    """The tokenizer of a model.

    Args:
        files: of the repository, by name.
        rules: see there.

    Raises:
        InvalidInputError: `invalid_tokenizer`: a file cannot be read.
        UnsupportedError: `unsupported_tokenizer`: there is none, or it needs what is not here.
    """
    if rules.unusual:
        raise UnsupportedError(_CODE, f"The tokenizer cannot be used: {rules.unusual}.", _WITHOUT)
    if not rules.own and rules.size == OPENAI_VOCABULARY:
        return _openai(rules)
    if TOKENIZER in files or (VOCABULARY in files and MERGES in files):
        return _from_files(files, rules)
    if rules.size == OPENAI_VOCABULARY:
        return _openai(rules)
    raise UnsupportedError(
        _CODE, f"No tokenizer came with the model, whose text tower knows {rules.size} tokens.", _HINT
    )


def _openai(rules: TokenizerRules) -> TextTokenizer:
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer(
        context_length=rules.context, clean=_OPENAI_CLEANING if rules.clean == "none" else rules.clean
    )

    def rows(texts: Sequence[str]) -> list[list[int]]:
        found: list[list[int]] = tokenizer(list(texts)).tolist()
        return found

    return TextTokenizer(rules.context, rules.size, None, rows)


def _from_files(files: Mapping[str, Path], rules: TokenizerRules) -> TextTokenizer:
    config = (
        _object(files[TOKENIZER_CONFIG], TOKENIZER_CONFIG, DEFAULT.config_bytes) if TOKENIZER_CONFIG in files else {}
    )
    backend = _backend(files)
    clean = _cleaning(rules.clean)
    padding = _token(config, "pad_token")
    pad = backend.token_to_id(padding) if padding else None
    backend.enable_truncation(rules.context)
    backend.enable_padding(
        direction="left" if config.get("padding_side") == "left" else "right",
        pad_id=pad if pad is not None else 0,
        pad_token=padding or "",
        length=rules.context,
    )
    separator = backend.token_to_id(_token(config, "sep_token")) if rules.strip_separator else None

    def rows(texts: Sequence[str]) -> list[list[int]]:
        encoded = [row.ids for row in backend.encode_batch([clean(text) for text in texts])]
        return [[0 if number == separator else number for number in ids] for ids in encoded] if separator else encoded

    unknown = _token(config, "unk_token")
    return TextTokenizer(rules.context, rules.size, backend.token_to_id(unknown) if unknown else None, rows)


def _cleaning(name: str) -> Callable[[str], str]:
    if name == "none":
        return str
    from open_clip.tokenizer import get_clean_fn

    found: Callable[[str], str] = get_clean_fn(name)
    return found


def _backend(files: Mapping[str, Path]) -> Any:
    """A `tokenizers.Tokenizer`."""
    from tokenizers import Tokenizer

    if TOKENIZER in files:
        _object(files[TOKENIZER], TOKENIZER, _MAX_BYTES)
        try:
            return Tokenizer.from_file(str(files[TOKENIZER]))
        except Exception as error:  # the library raises Exception itself
            raise _invalid(TOKENIZER, str(error)[:200]) from error
    from transformers import CLIPTokenizer

    vocabulary = _object(files[VOCABULARY], VOCABULARY, _MAX_BYTES)
    if not vocabulary or not all(type(number) is int for number in vocabulary.values()):
        raise _invalid(VOCABULARY, "it is no table of token numbers")
    try:
        # pairs, which the library takes as well as lines: tokens may hold what lines are split at
        return CLIPTokenizer(vocab=vocabulary, merges=_merges(files[MERGES])).backend_tokenizer  # type: ignore[arg-type]
    except Exception as error:  # also the tokenizers library's own: a merge of what is no token
        raise _invalid(MERGES, str(error)[:200]) from error


def _merges(path: Path) -> list[tuple[str, str]]:
    with path.open("rb") as stream:
        data = stream.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ValueError(f"more than {_MAX_BYTES} bytes")
    lines = [line for line in data.decode().split("\n") if line.strip() and not re.match(r"#\s*version", line)]
    pairs = [tuple(line.split()) for line in lines]
    if not all(len(pair) == 2 for pair in pairs):
        raise ValueError("a line is no pair of tokens")
    return pairs  # type: ignore[return-value]


def _object(path: Path, name: str, limit: int) -> dict[str, Any]:
    with path.open("rb") as stream:
        data = stream.read(limit + 1)
    return parse_object(data, Subject(name), "invalid_tokenizer", limit, _MAX_DEPTH)


def _token(config: Mapping[str, Any], key: str) -> str:
    """A special token by its role: text, or an object with its text."""
    value = config.get(key)
    value = value.get("content") if isinstance(value, Mapping) else value
    return value if isinstance(value, str) else ""


def _invalid(name: str, reason: str) -> InvalidInputError:
    return InvalidInputError("invalid_tokenizer", f"{name} cannot be read: {reason}.", "Save the tokenizer again.")
