"""What the parsing child writes about the texts of a scan: token numbers, and which targets they are for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core.config import ScanConfig
from core.data.reading import DecodedReference
from core.models.clip.texts import TokenisedTexts
from core.models.clip.tokenizers import TokenizerRules, open_tokenizer
from core.models.clip.vocabulary import choose_vocabulary, known_templates


def write_texts(
    rules: TokenizerRules,
    tokenizer_files: Mapping[str, Path],
    config: ScanConfig,
    reference: DecodedReference | None,
    out_dir: Path,
) -> dict[str, Any]:
    """Chooses the targets and writes texts.safetensors; nothing is written where nobody says a text.

    Args:
        rules: how the model's texts become numbers.
        tokenizer_files: of the repository, by name.
        config: its vocabulary and templates.
        reference: None without a reference set.
        out_dir: the intake folder.

    Returns:
        For inspection.json: source, names and templates of the vocabulary.

    Raises:
        InvalidInputError: `invalid_vocabulary`, `invalid_tokenizer`.
        UnsupportedError: `unsupported_tokenizer`: there are texts, and nothing to read them with.
    """
    vocabulary = choose_vocabulary(config, reference)
    captions = None if reference is None else reference.captions
    if vocabulary.names or captions is not None:
        tokenizer = open_tokenizer(tokenizer_files, rules)
        vocabulary = known_templates(vocabulary, tokenizer)
        targets = None
        if vocabulary.names:
            targets = tokenizer.encode(vocabulary.prompts()).reshape(len(vocabulary.names), -1, tokenizer.context)
        TokenisedTexts(targets, None if captions is None else tokenizer.encode(captions)).save(out_dir)
    return {
        "source": vocabulary.source.value,
        "names": list(vocabulary.names),
        "templates": list(vocabulary.templates),
    }
