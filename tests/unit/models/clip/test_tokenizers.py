"""Texts to numbers, as the libraries do it; what cannot be read is refused."""

import gzip
import json
from pathlib import Path

import open_clip
import pytest
import torch

from core.attacks.clip.captions import save_tokenizer
from core.errors import InvalidInputError
from core.models.clip.tokenizers import TokenizerRules, open_tokenizer
from tests.support.clip_layouts import TOKENIZER

TEXTS = ["A red  circle", "a photo of a Blue square, isn't it?", "", "x " * 99]
SMALL = TokenizerRules(16, TOKENIZER.get_vocab_size(), own=True, clean="whitespace")
OPENAI = TokenizerRules(77, 49_408, own=False, clean="lower")


def _files(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def test_openai_vocabulary_needs_no_files() -> None:
    assert torch.equal(open_tokenizer({}, OPENAI).encode(TEXTS), open_clip.tokenize(TEXTS))


def test_vocabulary_and_merges_are_the_same_tokenizer(tmp_path: Path) -> None:
    simple = open_clip.SimpleTokenizer()
    (tmp_path / "vocab.json").write_text(
        json.dumps(simple.encoder)
        .replace("<start_of_text>", "<|startoftext|>")
        .replace("<end_of_text>", "<|endoftext|>")
    )
    source = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    lines = gzip.decompress(source.read_bytes()).decode().split("\n")[1 : 49_152 - 256 - 2 + 1]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *lines]))
    rules = TokenizerRules(77, 49_408, own=True, clean="none")
    found = open_tokenizer(_files(tmp_path), rules).encode(TEXTS)
    expected = open_clip.tokenize(TEXTS)
    end = expected.argmax(1)  # behind it the one pads with zeros and the other with its end token
    for row, wanted, last in zip(found, expected, end.tolist(), strict=True):
        assert torch.equal(row[: last + 1], wanted[: last + 1])
    assert torch.equal(found.argmax(1), end)


def test_the_tokenizer_of_a_repository_is_read_as_open_clip_reads_it(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    tokenizer = open_tokenizer(_files(tmp_path), SMALL)
    theirs = open_clip.tokenizer.HFTokenizer(str(tmp_path), context_length=16)
    assert torch.equal(tokenizer.encode(TEXTS), theirs(TEXTS))
    assert tokenizer.unknown == TOKENIZER.token_to_id("<unk>")


def test_no_tokenizer_and_no_vocabulary_of_a_known_size() -> None:
    with pytest.raises(InvalidInputError, match="knows") as caught:
        open_tokenizer({}, SMALL)
    assert caught.value.code == "unsupported_tokenizer"
    assert "tokenizer.json" in caught.value.hint


def test_numbers_beyond_the_text_tower(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    tokenizer = open_tokenizer(_files(tmp_path), TokenizerRules(16, 5, own=True, clean="none"))
    with pytest.raises(InvalidInputError, match="knows 5 tokens") as caught:
        tokenizer.encode(["a red circle"])
    assert caught.value.code == "unsupported_tokenizer"


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b'{"version": "1.0", "model": {"type": "None"}}', b"\xff" * 9])
def test_files_that_are_no_tokenizer(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(InvalidInputError) as caught:
        open_tokenizer(_files(tmp_path), SMALL)
    assert caught.value.code == "invalid_tokenizer"


@pytest.mark.parametrize(
    ("vocabulary", "merges"),
    [('{"a": 0}', "a b c"), ('{"a": "x"}', ""), ('{"a": 0}', "a b"), ("[]", ""), ('{"a": 0}', "\udcff")],
)
def test_vocabularies_and_merges_that_are_none(vocabulary: str, merges: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(vocabulary)
    (tmp_path / "merges.txt").write_bytes(merges.encode(errors="surrogateescape"))
    with pytest.raises(InvalidInputError) as caught:
        open_tokenizer(_files(tmp_path), SMALL)
    assert caught.value.code == "invalid_tokenizer"


def test_what_is_not_done_here_is_refused_when_texts_are_to_be_read(tmp_path: Path) -> None:
    save_tokenizer(TOKENIZER, tmp_path)
    with pytest.raises(InvalidInputError, match="tokenizer_mode"):
        open_tokenizer(_files(tmp_path), TokenizerRules(16, 99, own=True, clean="none", unusual="tokenizer_mode"))
