"""Reads a reference set for a model: decoded, resized, labelled, with a reason for every reject."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.data.checking import native_size, pictures, require_enough, shortened
from core.data.contents import sort_members
from core.data.images import Size, fit
from core.data.labels import Labelling, find_labels, match_labels, own_classes
from core.data.members import Members, open_members
from core.data.pairs import FoundCaptions, find_captions
from core.errors import InvalidInputError

#: Decoded, at the model's input size.
MAX_DECODED_BYTES = 4 << 30
_MAX_MISSING = 50


@dataclass(frozen=True, slots=True)
class DecodedReference:
    """A reference set at the model's input size.

    Attributes:
        pixels: (N, C, H, W) uint8.
        labels: (N,) int64, or None.
        report: what was used and what was not, and how it fits the model, as JSON; its `class_names` are what labels
            index.
        captions: one line of text for each image; None for images alone.
    """

    pixels: Tensor
    labels: Tensor | None
    report: dict[str, Any]
    captions: tuple[str, ...] | None = None


def read_reference(
    path: Path,
    *,
    num_classes: int,
    channels: int,
    choose_size: Callable[[Size | None], Size],
    on_progress: Callable[[float], None],
    class_names: Sequence[str] = (),
    crop: float = 1.0,
    resample: str = "",
    squash: bool = False,
) -> DecodedReference:
    """Reads the archive or folder at `path` for a classifier.

    Args:
        num_classes: K.
        channels: of the model's input: 1 or 3.
        choose_size: the model's (H, W), given the images' own size if they all have one.
        on_progress: called with the fraction done.
        class_names: the model's own, by class index; empty if it has none.
        crop: share of a resized image that the model's own centre crop keeps.
        resample: the model's own filter; empty if it names none.
        squash: the model's own resizing does not keep proportions.

    Raises:
        InvalidInputError: `reference_too_small`, `reference_too_large`, `reference_labels_do_not_fit`, ...
    """
    with open_members(path) as members:
        labelling = match_labels(find_labels(members.names, members.read), num_classes, class_names)
        return _decode(
            members, labelling, None, num_classes, channels, choose_size, (crop, resample, squash), on_progress
        )


def read_pairs(
    path: Path,
    *,
    vocabulary: Sequence[str] = (),
    channels: int,
    choose_size: Callable[[Size | None], Size],
    on_progress: Callable[[float], None],
    crop: float = 1.0,
    resample: str = "",
    squash: bool = False,
) -> DecodedReference:
    """Reads the archive or folder at `path` for a model of images and texts.

    Captions come first: images that have one have no label here, the model's text tower says later which target
    their text belongs to. Images without captions keep their classes: names of the vocabulary, or, where the
    request gives none, targets of their own.

    Args:
        vocabulary: what the request calls the targets; empty if it does not.
        channels, choose_size, on_progress, crop, resample, squash: as for `read_reference`.

    Returns:
        `report["class_names"]`: the vocabulary, or the set's own class names; empty if there is neither.

    Raises:
        InvalidInputError: as `read_reference`; `invalid_reference_captions`.
    """
    with open_members(path) as members:
        captions = find_captions(members.names, members.read)
        if captions is not None:
            mapping = f"captions from {captions.source}"
            labelling = Labelling(
                captions.images, None, tuple(vocabulary), "caption", mapping, rejected=captions.rejected
            )
        elif vocabulary:
            found = find_labels(members.names, members.read)
            labelling = match_labels(found, len(vocabulary), vocabulary, by_order=False)
        else:
            labelling = own_classes(find_labels(members.names, members.read))
        return _decode(
            members,
            labelling,
            captions,
            len(labelling.class_names),
            channels,
            choose_size,
            (crop, resample, squash),
            on_progress,
        )


def _decode(
    members: Members,
    labelling: Labelling,
    captions: FoundCaptions | None,
    num_classes: int,
    channels: int,
    choose_size: Callable[[Size | None], Size],
    fitting: tuple[float, str, bool],
    on_progress: Callable[[float], None],
) -> DecodedReference:
    native = native_size(members, labelling.images)
    size = choose_size(native)
    if len(labelling.images) * channels * size[0] * size[1] > MAX_DECODED_BYTES:
        raise InvalidInputError(
            "reference_too_large", f"{len(labelling.images)} images of {size} are too much.", "Send fewer images."
        )
    crop, resample, squash = fitting
    rejected = list(labelling.rejected)
    kept: list[int] = []
    pixels: list[Tensor] = []
    for picture in pictures(members, labelling.images, "L" if channels == 1 else "RGB", rejected, on_progress):
        pixels.append(_to_tensor(fit(picture.image, size, crop, resample, squash=squash)))
        kept.append(picture.index)
    require_enough(len(pixels), rejected)
    labels = None
    if labelling.labels is not None:
        labels = torch.tensor([labelling.labels[i] for i in kept], dtype=torch.int64)
    texts = None if captions is None else tuple(captions.captions[i] for i in kept)
    report = {
        "images": sort_members(members.names).offered,
        "images_used": len(kept),
        "labelled": labels is not None or texts is not None,
        "class_names": list(labelling.class_names),
        "label_mapping": labelling.mapping,
        "matched_by": labelling.matched_by,
        "captioned": 0 if texts is None else len(texts),
        "captions_spare": 0 if captions is None else captions.spare,
        **_fit_to_model(labels, num_classes),
        "native_size": list(native) if native else None,
        "size": list(size),
        "rejected": shortened(rejected),
        "rejected_total": len(rejected),
    }
    return DecodedReference(torch.stack(pixels), labels, report, texts)


def _fit_to_model(labels: Tensor | None, num_classes: int) -> dict[str, Any]:
    """Which classes have images; nothing is known of an unlabelled set."""
    present = set() if labels is None else set(labels.tolist())
    missing = [] if labels is None else [i for i in range(num_classes) if i not in present]
    return {
        "classes_present": len(present),
        "classes_missing": missing[:_MAX_MISSING],
        "classes_missing_total": len(missing),
    }


def _to_tensor(image: Image.Image) -> Tensor:
    """(C, H, W) uint8."""
    array = np.array(image, dtype=np.uint8)
    return torch.from_numpy(array.reshape(image.height, image.width, -1)).permute(2, 0, 1).contiguous()
