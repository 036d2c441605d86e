"""A reference set looked through by itself, without a model: what is in it, and what cannot be used. No torch."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from core.data.contents import sort_members
from core.data.images import Size, decode, open_image, picture_size
from core.data.labels import FoundLabels, class_index, find_labels
from core.data.members import Members, open_members
from core.data.pairs import FoundCaptions, find_captions
from core.data.rejects import ImageRejectedError, Reject
from core.errors import InvalidInputError

MIN_IMAGES = 10
MAX_IMAGES = 20_000
#: Pixels of all pictures together as they are in their files.
MAX_TOTAL_PIXELS = 10_000_000_000
MAX_LISTED = 100
_MAX_CLASSES_LISTED = 1_000
_MAX_TEXT = 240


@dataclass(frozen=True, slots=True)
class Picture:
    """One usable image: its place among the images, and its pixels the right way up."""

    index: int
    image: Image.Image


def pictures(
    members: Members, names: list[str], mode: str, rejected: list[Reject], on_progress: Callable[[float], None]
) -> Iterator[Picture]:
    """Decodes the images one after the other; what cannot be used is added to `rejected`.

    Args:
        mode: "L" or "RGB".
        on_progress: called with the fraction done.

    Raises:
        InvalidInputError: `reference_too_large`: counted while decoding, whatever the headers say.
    """
    if len(names) > MAX_IMAGES:
        raise InvalidInputError(
            "reference_too_large",
            f"{len(names)} images; at most {MAX_IMAGES}.",
            "A few hundred images per ten classes are enough.",
        )
    total = 0
    for i, name in enumerate(names):
        if i % 64 == 0:
            on_progress(i / len(names))
        try:
            image = open_image(members.read(name), name)
            total += image.width * image.height
            if total > MAX_TOTAL_PIXELS:
                raise InvalidInputError(
                    "reference_too_large",
                    f"The images hold more than {MAX_TOTAL_PIXELS} pixels together.",
                    "Send fewer or smaller images.",
                )
            decoded = decode(image, mode)
        except ImageRejectedError as error:
            rejected.append(Reject(name, error.code, error.reason))
            continue
        yield Picture(i, decoded)


def check_reference(path: Path, on_progress: Callable[[float], None]) -> dict[str, Any]:
    """Looks through the archive at `path`, every pixel of it.

    Returns:
        Facts as JSON: images, images_used, labelled, label_kind ("index", "name" or null), classes (label, index,
        images; capped), classes_total, captioned, captions_distinct, captions_source, sizes (smallest and largest
        side), rejected (file, code, reason; capped) and rejected_total. Images are used that a classifier or a model
        of images and texts would use.

    Raises:
        InvalidInputError, UnsafeError, UnsupportedError: see members.open_members, labels.find_labels,
            pairs.find_captions and `pictures`; `reference_too_small`.
    """
    with open_members(path) as members:
        found = find_labels(members.names, members.read)
        captions = find_captions(members.names, members.read)
        rejected = list(found.rejected)
        if captions is not None:
            rejected += [reject for reject in captions.rejected if reject not in found.rejected]
        images = sorted({*found.images, *(() if captions is None else captions.images)})
        used: set[str] = set()
        sides: list[int] = []
        for picture in pictures(members, images, "RGB", rejected, on_progress):
            used.add(images[picture.index])
            sides += picture.image.size
        count = sort_members(members.names).offered
    require_enough(len(used), rejected)
    return {
        "images": count,
        "images_used": len(used),
        **_label_facts(found, used),
        **_caption_facts(captions, used),
        "sizes": {"smallest_side": min(sides), "largest_side": max(sides)},
        "rejected": [
            {"file": item.file[:_MAX_TEXT], "code": item.code, "reason": item.reason[:_MAX_TEXT]}
            for item in rejected[:MAX_LISTED]
        ],
        "rejected_total": len(rejected),
    }


def require_enough(count: int, rejected: list[Reject]) -> None:
    """Raises InvalidInputError (`reference_too_small`), with the first reasons for what is not used."""
    if count < MIN_IMAGES:
        why = f" Not used: {'; '.join(str(reject)[:160] for reject in rejected[:5])}." if rejected else ""
        raise InvalidInputError(
            "reference_too_small",
            f"{count} usable images; at least {MIN_IMAGES} are needed.{why}",
            "Send PNG, JPEG or WEBP images the model was made for, some tens per class.",
        )


def shortened(rejected: list[Reject]) -> list[str]:
    """Reasons for a report: at most MAX_LISTED, and how many there are beside them."""
    shown = [str(reject)[:_MAX_TEXT] for reject in rejected[:MAX_LISTED]]
    return shown + ([f"... and {len(rejected) - MAX_LISTED} more"] if len(rejected) > MAX_LISTED else [])


def native_size(members: Members, names: list[str], peeks: int = 200) -> Size | None:
    """(H, W) if all of up to `peeks` images spread over the set have it."""
    sizes: set[Size] = set()
    for name in names[:: max(1, len(names) // peeks)]:
        try:
            sizes.add(picture_size(open_image(members.read(name), name)))
        except ImageRejectedError:  # told when it is decoded
            continue
    return next(iter(sizes)) if len(sizes) == 1 else None


def _caption_facts(found: FoundCaptions | None, used: set[str]) -> dict[str, Any]:
    if found is None:
        return {"captioned": 0, "captions_distinct": 0, "captions_source": None}
    texts = [text for image, text in zip(found.images, found.captions, strict=True) if image in used]
    return {"captioned": len(texts), "captions_distinct": len(set(texts)), "captions_source": found.source}


def _label_facts(found: FoundLabels, used: set[str]) -> dict[str, Any]:
    if found.texts is None:
        return {"labelled": False, "label_kind": None, "classes": [], "classes_total": 0}
    counts = Counter(text for image, text in zip(found.images, found.texts, strict=True) if image in used)
    by_index = all(class_index(text) is not None for text in counts)
    classes = [
        {"label": text[:_MAX_TEXT], "index": class_index(text) if by_index else None, "images": count}
        for text, count in sorted(counts.items(), key=lambda item: (class_index(item[0]) or 0, item[0]))
    ]
    return {
        "labelled": True,
        "label_kind": "index" if by_index else "name",
        "classes": classes[:_MAX_CLASSES_LISTED],
        "classes_total": len(classes),
    }
