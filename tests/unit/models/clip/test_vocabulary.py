"""Which texts become the targets."""

import pytest
import torch

from core.attacks.clip.captions import PROMPTS
from core.config import ScanConfig
from core.data.reading import DecodedReference
from core.errors import InvalidInputError
from core.models.clip.tokenizers import TextTokenizer
from core.models.clip.vocabulary import (
    MAX_CAPTIONS,
    TEMPLATES,
    VocabularySource,
    choose_vocabulary,
    known_templates,
)
from tests.support.clip_layouts import TOKENIZER


def _reference(captions: list[str] | None = None, labels: list[int] | None = None) -> DecodedReference:
    count = len(captions or labels or [0])
    report = {"class_names": ["cat", "dog"] if labels else []}
    rows = None if labels is None else torch.tensor(labels)
    return DecodedReference(torch.zeros(count, 3, 4, 4, dtype=torch.uint8), rows, report, captions and tuple(captions))


def test_the_order_of_preference() -> None:
    request = ScanConfig(vocabulary=("owl", "yak"))
    captions, classes, alone = _reference(["A cat.", "a dog", "a cat"]), _reference(labels=[0, 1]), _reference()
    for reference in (captions, classes, alone, None):
        chosen = choose_vocabulary(request, reference)
        assert (chosen.source, chosen.names, chosen.templates) == (VocabularySource.REQUEST, ("owl", "yak"), TEMPLATES)
    assert choose_vocabulary(ScanConfig(), classes).names == ("cat", "dog")
    found = choose_vocabulary(ScanConfig(), captions)
    assert (found.source, found.names, found.templates) == (VocabularySource.CAPTIONS, ("A cat.", "a dog"), ("{}",))
    assert choose_vocabulary(ScanConfig(), alone).source is VocabularySource.IMAGE_CLUSTERS


@pytest.mark.parametrize(
    ("count", "source"),
    [
        (1, VocabularySource.CAPTION_CLUSTERS),
        (MAX_CAPTIONS, VocabularySource.CAPTIONS),
        (MAX_CAPTIONS + 1, VocabularySource.CAPTION_CLUSTERS),
    ],
)
def test_many_captions_are_clustered(count: int, source: VocabularySource) -> None:
    assert choose_vocabulary(ScanConfig(), _reference([f"caption {i}" for i in range(count)])).source is source


def test_nothing_to_take_targets_from() -> None:
    for config in (ScanConfig(), ScanConfig(vocabulary=("cat",)), ScanConfig(vocabulary=("cat", "cat"))):
        with pytest.raises(InvalidInputError) as caught:
            choose_vocabulary(config, None)
        assert caught.value.code == "invalid_vocabulary"


def test_prompts_of_a_name_stand_together() -> None:
    chosen = choose_vocabulary(ScanConfig(vocabulary=("owl", "{y}"), templates=("{}", "a {}!")), None)
    assert chosen.prompts() == ["owl", "a owl!", "{y}", "a {y}!"]


def test_templates_with_words_that_the_model_does_not_know_are_left_out() -> None:
    unknown = TOKENIZER.token_to_id("<unk>")
    TOKENIZER.enable_padding(length=16)
    tokenizer = TextTokenizer(
        16, TOKENIZER.get_vocab_size(), unknown, lambda texts: [row.ids for row in TOKENIZER.encode_batch(list(texts))]
    )
    config = ScanConfig(vocabulary=("red circle", "purple cow"), templates=("{}", "a {}", "an oil painting of {}"))
    assert known_templates(choose_vocabulary(config, None), tokenizer).templates == ("{}", "a {}")
    assert set(TEMPLATES) == set(PROMPTS)
