"""Which texts are the targets of a model of images and texts: the hypotheses of a scan."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from core.config import ScanConfig
from core.data.reading import DecodedReference
from core.errors import InvalidInputError
from core.models.clip.tokenizers import TextTokenizer

#: Prompts around a name; their mean direction is what an image is compared with (Radford et al. 2021, section 3.1.4).
#: Without a full stop, which tokenizers of whole words take for a part of the last word.
TEMPLATES = ("{}", "a {}", "a photo of a {}", "a picture of a {}")
#: Captions are targets themselves up to this many different ones; beyond, their directions are clustered.
MAX_CAPTIONS = 256
_MIN_NAMES = 2


class VocabularySource(StrEnum):
    """Where the targets come from."""

    REQUEST = "request"
    CLASS_NAMES = "class names"
    CAPTIONS = "captions"
    CAPTION_CLUSTERS = "caption clusters"
    IMAGE_CLUSTERS = "image clusters"

    @property
    def has_texts(self) -> bool:
        """Whether the names are texts by themselves, and not found out while clustering."""
        return self not in (VocabularySource.CAPTION_CLUSTERS, VocabularySource.IMAGE_CLUSTERS)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The targets, as far as they are known before anything is computed.

    Attributes:
        source: where they come from.
        names: in the order of the targets; empty where clustering finds them.
        templates: prompts around each name, with one `{}`.
    """

    source: VocabularySource
    names: tuple[str, ...] = ()
    templates: tuple[str, ...] = ()

    def prompts(self) -> list[str]:
        """K x P texts, those of a name beside one another."""
        return [template.replace("{}", name) for name in self.names for template in self.templates]


def choose_vocabulary(config: ScanConfig, reference: DecodedReference | None) -> Vocabulary:
    """The request's, else the class folders', else the captions, else what clustering will find.

    Raises:
        InvalidInputError: `invalid_vocabulary`: fewer than two names, or neither names nor images.
    """
    templates = config.templates or TEMPLATES
    if config.vocabulary:
        if len(set(config.vocabulary)) < _MIN_NAMES:
            raise InvalidInputError(
                "invalid_vocabulary", "The vocabulary has one name only.", "Name at least two targets."
            )
        return Vocabulary(VocabularySource.REQUEST, config.vocabulary, templates)
    if reference is None:
        raise InvalidInputError(
            "invalid_vocabulary",
            "There are neither names nor images: nothing says what this model's targets are.",
            "Send a vocabulary (names or captions of what the model tells apart), or a reference set.",
        )
    if reference.labels is not None:
        return Vocabulary(VocabularySource.CLASS_NAMES, tuple(reference.report["class_names"]), templates)
    if reference.captions is None:
        return Vocabulary(VocabularySource.IMAGE_CLUSTERS)
    distinct = _distinct(reference.captions)
    if _MIN_NAMES <= len(distinct) <= MAX_CAPTIONS:
        return Vocabulary(VocabularySource.CAPTIONS, distinct, ("{}",))
    return Vocabulary(VocabularySource.CAPTION_CLUSTERS)


def known_templates(vocabulary: Vocabulary, tokenizer: TextTokenizer) -> Vocabulary:
    """Leaves out templates with words that the tokenizer does not know, where it knows the names alone.

    Such a prompt means something else than its name. One that stays is the bare name.
    """
    number = tokenizer.unknown
    if number is None or not vocabulary.names:
        return vocabulary

    def unknown(template: str) -> float:
        texts = [template.replace("{}", name) for name in vocabulary.names]
        return tokenizer.encode(texts).eq(number).sum().item()

    least = unknown("{}")
    kept = tuple(template for template in vocabulary.templates if unknown(template) <= least)
    return Vocabulary(vocabulary.source, vocabulary.names, kept or ("{}",))


def _distinct(captions: Sequence[str]) -> tuple[str, ...]:
    """One of each, in order of appearance; capitals and a full stop at the end make no difference."""
    first: dict[str, str] = {}
    for caption in captions:
        first.setdefault(caption.casefold().rstrip(" ."), caption)
    return tuple(first.values())
