"""Decides what the files of a model leave open, by how well it matches reference images with their own texts."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from core.data.reference import ReferenceSet
from core.data.transforms import Normalisation, normalisations
from core.errors import UnsupportedError
from core.models.clip.blueprint import CHANNELS, ClipBlueprint
from core.models.clip.texts import TokenisedTexts, anchor_directions, directions
from core.models.loading_parts import load_strictly

#: Images that candidates are compared on, evenly spaced.
_IMAGES = 64
_USUAL = "usual for CLIP"


def openai_normalisation() -> Normalisation:
    """Mean and deviation that open_clip and transformers take where nobody says."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    return tuple(OPENAI_DATASET_MEAN), tuple(OPENAI_DATASET_STD)


def choose(
    candidates: Sequence[ClipBlueprint],
    declared: Normalisation | None,
    tensors: Mapping[str, Tensor],
    texts: TokenisedTexts,
    reference: ReferenceSet | None,
) -> tuple[ClipBlueprint, Normalisation, str]:
    """The candidate and the normalisation under which images are likeliest to be given their own texts.

    Args:
        candidates: networks that the tensors fit.
        declared: None if nobody says.
        tensors: of the whole network.
        texts: captions, or a vocabulary for labelled images; without both nothing can be compared.
        reference: None without a reference set.

    Returns:
        Network, normalisation, and who says the normalisation; empty if `declared` does.

    Raises:
        UnsupportedError: `unsupported_architecture`: several candidates, and nothing to compare them by.
    """
    usual = openai_normalisation()
    if len(candidates) == 1 and declared is not None:
        return candidates[0], declared, ""
    if reference is None or not reference.labelled or (texts.captions is None and texts.vocabulary is None):
        if len(candidates) > 1:
            raise UnsupportedError(
                "unsupported_architecture",
                "The weights do not say which activation follows a layer (GELU or the first CLIP's QuickGELU), and "
                "there are no images with texts to find it out by.",
                "Send a reference set with captions or class folders, open_clip_config.json beside the weights, or "
                "architecture=open_clip:NAME.",
            )
        return candidates[0], declared or usual, "" if declared else _USUAL
    named = {"declared": declared} if declared else {_USUAL: usual, **normalisations(CHANNELS)}
    rows = torch.linspace(0, len(reference) - 1, min(len(reference), _IMAGES)).long()
    best: tuple[float, ClipBlueprint, Normalisation, str] | None = None
    for candidate in candidates:
        network = candidate.build().eval()
        load_strictly(network, tensors)
        for name, normalisation in named.items():
            fit = _likelihood(candidate, network, normalisation, texts, reference, rows)
            if best is None or fit > best[0]:
                best = fit, candidate, normalisation, f"reference texts ({name})"
    assert best is not None
    return best[1], best[2], "" if declared else best[3]


@torch.no_grad()
def _likelihood(
    blueprint: ClipBlueprint,
    network: nn.Module,
    normalisation: Normalisation,
    texts: TokenisedTexts,
    reference: ReferenceSet,
    rows: Tensor,
) -> float:
    """Mean log-probability of the images' own texts among all texts."""

    def embed(tokens: Tensor) -> Tensor:
        return blueprint.embed(network, tokens)

    if texts.captions is not None:
        different, own = torch.unique(texts.captions[rows], dim=0, return_inverse=True)
        targets = directions(different, embed)
    else:
        assert texts.vocabulary is not None  # `choose` has looked
        targets, own = anchor_directions(texts.vocabulary, embed), reference.labels[rows]
    mean, std = (torch.tensor(values).reshape(1, -1, 1, 1) for values in normalisation)
    images = normalize(blueprint.image_tower(network)((reference.pixels[rows] - mean) / std).float(), dim=1)
    log_posterior = log_softmax(blueprint.scale(network) * images @ targets.T, 1)
    return log_posterior.gather(1, own[:, None]).mean().item()
