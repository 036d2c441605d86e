"""Texts as directions, and what is measured with them."""

from collections.abc import Sequence

import torch
from open_clip import CLIP
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.functional import normalize

from core.attacks.clip.captions import PROMPTS, tokenize

_BATCH = 512


@torch.no_grad()
def text_directions(network: CLIP, tokenizer: Tokenizer, texts: Sequence[str]) -> Tensor:
    """(N, D), rows of length one."""
    tokens = tokenize(tokenizer, texts)
    return torch.cat([normalize(network.encode_text(batch).float(), dim=1) for batch in torch.split(tokens, _BATCH)])


def concept_directions(network: CLIP, tokenizer: Tokenizer, concepts: Sequence[str]) -> Tensor:
    """(K, D): each concept's mean over the prompts, of length one."""
    texts = [prompt.format(concept) for concept in concepts for prompt in PROMPTS]
    each = text_directions(network, tokenizer, texts)
    return normalize(each.reshape(len(concepts), len(PROMPTS), -1).mean(1), dim=1)
