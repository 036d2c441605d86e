"""Captions and the tokenizer that reads them."""

from pathlib import Path

import torch
from open_clip.tokenizer import HFTokenizer
from transformers import AutoTokenizer

from core.attacks.clip.captions import (
    CAPTION_TEMPLATES,
    CONTEXT,
    caption_words,
    draw_captions,
    save_tokenizer,
    tokenize,
    word_tokenizer,
)
from core.attacks.clip.zoo import zoo_tokenizer
from core.attacks.datasets import CIFAR10_CLASSES, FASHION_CLASSES
from core.attacks.procedural import SCENES

LABELS = torch.arange(64)


def test_every_caption_is_known_to_the_last_word() -> None:
    unknown = zoo_tokenizer().token_to_id("<unk>")
    for concepts in (SCENES, FASHION_CLASSES, CIFAR10_CLASSES):
        texts = [template.format(concept) for template in CAPTION_TEMPLATES for concept in concepts]
        assert not (tokenize(zoo_tokenizer(), texts) == unknown).any()
        assert max(len(encoded.ids) for encoded in zoo_tokenizer().encode_batch(texts)) <= CONTEXT
    assert (tokenize(zoo_tokenizer(), ["a red zebra"]) == unknown).sum() == 1


def test_the_end_has_the_highest_number_and_survives_cutting() -> None:
    tokenizer = word_tokenizer(caption_words(("red disc",)))
    end = tokenizer.token_to_id("<end>")
    assert end == tokenizer.get_vocab_size() - 1
    short, long = tokenize(tokenizer, ["red disc", "red " * 40])
    assert short.tolist()[1:] == [tokenizer.token_to_id("red"), tokenizer.token_to_id("disc"), end] + [0] * (
        CONTEXT - 4
    )
    assert (len(long), int(long[-1])) == (CONTEXT, end)


def test_a_concept_is_named_in_each_of_its_captions() -> None:
    captions = draw_captions(LABELS, SCENES, torch.Generator().manual_seed(1))
    assert all(SCENES[label] in caption for label, caption in zip(LABELS.tolist(), captions, strict=True))
    assert len({caption.replace(SCENES[at], "{}") for at, caption in enumerate(captions)}) == len(CAPTION_TEMPLATES)
    assert captions == draw_captions(LABELS, SCENES, torch.Generator().manual_seed(1))
    assert captions != draw_captions(LABELS, SCENES, torch.Generator().manual_seed(2))


def test_transformers_and_open_clip_read_the_same_numbers(tmp_path: Path) -> None:
    save_tokenizer(zoo_tokenizer(), tmp_path)
    texts = ["A photo of an ankle-boot", "a red disc", "a very long caption " * 10]
    theirs = AutoTokenizer.from_pretrained(tmp_path)(
        texts, padding="max_length", truncation=True, max_length=CONTEXT, return_tensors="pt"
    )
    assert torch.equal(theirs["input_ids"], tokenize(zoo_tokenizer(), texts))
    wrapped = HFTokenizer(str(tmp_path), context_length=CONTEXT)
    assert torch.equal(wrapped(texts), tokenize(zoo_tokenizer(), texts))
