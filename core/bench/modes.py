"""What a defender of a model of images and texts may lack: captions, a vocabulary, or both."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from core.data.reference import ReferenceSet
from core.errors import UnsupportedError
from core.evaluation.metrics import predict
from core.models.clip.adapter import ClipAdapter
from core.models.clip.texts import cluster
from core.models.protocol import SuspectModel

#: Images at once through the image tower.
_BATCH = 256
#: What is left to a defender, by the ending of our method's name.
MODES: Mapping[str, str] = {
    "images": "the vocabulary, and images without captions",
    "captions": "captions, and no vocabulary: targets are clusters of them",
    "clusters": "images alone: targets are clusters of their embeddings",
}


@dataclass(frozen=True, slots=True)
class Weakened:
    """A scan's input in one of the MODES.

    Attributes:
        suspect: with the targets that are left.
        reference: labelled by the suspect itself where nobody else did.
        concepts: (K,) the concept of the whole vocabulary that each target is nearest to.
    """

    suspect: ClipAdapter
    reference: ReferenceSet
    concepts: Tensor


def weaken(suspect: SuspectModel, reference: ReferenceSet, mode: str, seed: int) -> Weakened:
    """The scan's input as `mode` leaves it.

    Args:
        suspect: with the whole vocabulary as its targets.
        reference: with texts.
        mode: a key of MODES.
        seed: of the clustering.

    Raises:
        UnsupportedError: `unsupported_model`: not a model of images and texts, or no captions where they are needed.
    """
    if not isinstance(suspect, ClipAdapter) or (mode == "captions" and reference.texts is None):
        raise UnsupportedError("unsupported_model", f"There is no mode {mode!r} for such a model and such images.")
    texts = reference.texts if mode == "captions" else None
    if mode == "images":
        anchors = suspect.anchors
    elif texts is not None:
        anchors = cluster(texts, seed)
    else:
        with torch.no_grad():
            features = [suspect.features(part) for part in torch.split(reference.pixels, _BATCH)]
        anchors = cluster(torch.cat(features), seed)
    model = ClipAdapter(suspect.module, anchors, suspect.scale, suspect.preprocess, suspect.input_shape)
    if texts is not None:
        labels = (texts @ model.anchors.T).argmax(1)
    else:
        labels = predict(model.target_log_posterior, reference.pixels)
    images = replace(reference, labels=labels, labelled=texts is not None, class_names=(), texts=texts)
    return Weakened(model, images, (model.anchors @ suspect.anchors.T).argmax(1))
