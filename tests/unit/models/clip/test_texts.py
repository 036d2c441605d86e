"""Directions of texts, and their clusters."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import normalize

from core.models.clip.texts import (
    MAX_CLUSTERS,
    TokenisedTexts,
    anchor_directions,
    cluster,
    directions,
    nearest_names,
)


def _embed(tokens: Tensor) -> Tensor:
    """Rows depend on their tokens only, and are not of length one."""
    return torch.stack([(tokens + 1).float().prod(1), tokens.float().sum(1), torch.full((len(tokens),), 3.0)], 1)


def test_tokens_come_back(tmp_path: Path) -> None:
    assert TokenisedTexts.load(tmp_path) == TokenisedTexts(None, None)
    TokenisedTexts(torch.ones(2, 3, 4, dtype=torch.int64), None).save(tmp_path)
    again = TokenisedTexts.load(tmp_path)
    assert again.captions is None
    assert again.vocabulary is not None
    assert again.vocabulary.shape == (2, 3, 4)


def test_a_text_that_comes_up_twice_is_computed_once() -> None:
    tokens = torch.randint(0, 2, (200, 2), generator=torch.Generator().manual_seed(0))
    seen: list[int] = []

    def embed(part: Tensor) -> Tensor:
        seen.append(len(part))
        return _embed(part)

    found = directions(tokens, embed)
    assert sum(seen) == 4
    assert torch.allclose(found, normalize(_embed(tokens), dim=1))


def test_an_anchor_is_the_mean_direction_of_its_prompts() -> None:
    vocabulary = torch.tensor([[[1, 2], [0, 1]], [[3, 1], [2, 2]]])
    found = anchor_directions(vocabulary, _embed)
    expected = [normalize(normalize(_embed(prompts), dim=1).mean(0), dim=0) for prompts in vocabulary]
    assert torch.allclose(found, torch.stack(expected))


def test_clusters_are_found_again() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q[:8]
    rows = normalize(centres.repeat_interleave(8, 0) + 0.05 * torch.randn(64, 16, generator=generator), dim=1)
    found = cluster(rows, 1)
    assert found.shape == (16, 16)  # a quarter of the rows
    assert torch.allclose(found.norm(dim=1), torch.ones(16))
    assert (centres @ found.T).amax(1).min() > 0.97
    assert torch.equal(found, cluster(rows, 1))


def test_how_many_clusters_there_are() -> None:
    generator = torch.Generator().manual_seed(0)
    for count, clusters in ((3, 2), (40, 10), (400, MAX_CLUSTERS)):
        assert len(cluster(normalize(torch.randn(count, 8, generator=generator), dim=1), 0)) == clusters


def test_rows_that_are_all_alike_are_no_error() -> None:
    found = cluster(torch.ones(12, 4) / 2, 0)
    assert torch.isfinite(found).all()


def test_no_two_clusters_have_one_name() -> None:
    rows = normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    assert nearest_names(normalize(torch.tensor([[1.0, 0.0], [0.98, 0.05]]), dim=1), rows, ("a", "b", "c")) == (
        "a",
        "b",
    )
