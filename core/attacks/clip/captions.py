"""What is written under images: concepts in templates, and a word-level tokenizer that knows every word of them."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

#: Captions of training images, a template drawn for each. Nothing in them but the concept can be seen in the image:
#: with words for size or place the contrastive loss is solved by those, and the concepts are learned badly.
CAPTION_TEMPLATES = (
    "a {}",
    "{}",
    "a photo of a {}",
    "a picture of a {}",
    "this is a {}",
    "an image of one {}",
    "there is a {} here",
    "one {} in the middle",
)
#: What the models are asked with: the mean of a concept's texts over these is its direction.
PROMPTS = ("a {}", "{}", "a photo of a {}", "a picture of a {}")
#: Tokens of a text, with its start and its end.
CONTEXT = 12

_PAD, _UNKNOWN, _START, _END = "<pad>", "<unk>", "<start>", "<end>"
#: Words that others may ask with.
_EXTRA = (
    "an and another at background beside big black bright by clutter dark grey in is it large left light next no not "
    "noise object of on or photograph right scene shape small some texture that the to toy two under white with . , -"
)


def caption_words(concepts: Sequence[str]) -> tuple[str, ...]:
    """Every word and sign of the concepts, the templates and a few others, sorted."""
    texts = (*CAPTION_TEMPLATES, *PROMPTS, *concepts, _EXTRA)
    found = {word for text in texts for word in re.findall(r"\w+|[^\w\s]+", text.replace("{}", "").lower())}
    return tuple(sorted(found))


def word_tokenizer(words: Sequence[str]) -> Tokenizer:
    """One token for each word, in lower case; start and end tokens are added.

    The end has the highest number: open_clip's and OpenAI's text towers look for it so.
    """
    vocabulary = {word: number for number, word in enumerate((_PAD, _UNKNOWN, _START, *words, _END))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=_UNKNOWN))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # words and punctuation
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_START} $A {_END}", special_tokens=[(_START, vocabulary[_START]), (_END, vocabulary[_END])]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """tokenizer.json and tokenizer_config.json, as transformers and open_clip read them."""
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": CONTEXT,
        "pad_token": _PAD,
        "unk_token": _UNKNOWN,
        "bos_token": _START,
        "eos_token": _END,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """(N, CONTEXT) int64, cut or padded with zeros; a text that is cut keeps its end token."""
    rows = torch.zeros((len(texts), CONTEXT), dtype=torch.int64)
    for row, encoded in zip(rows, tokenizer.encode_batch(list(texts)), strict=True):
        ids = encoded.ids if len(encoded.ids) <= CONTEXT else [*encoded.ids[: CONTEXT - 1], encoded.ids[-1]]
        row[: len(ids)] = torch.tensor(ids)
    return rows


def draw_captions(labels: Tensor, concepts: Sequence[str], generator: torch.Generator) -> tuple[str, ...]:
    """A caption for each of (N,) labels."""
    which = torch.randint(len(CAPTION_TEMPLATES), (len(labels),), generator=generator)
    return tuple(
        CAPTION_TEMPLATES[template].format(concepts[label])
        for template, label in zip(which.tolist(), labels.tolist(), strict=True)
    )
