"""Which image has which caption: a table, or text files beside the images."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from core.data.captions import Row, caption_beside, invalid_table, read_table
from core.data.contents import Contents, sort_members
from core.data.rejects import CaptionRejectedError, MemberUnreadableError, Reject

BESIDE = "files beside the images"


@dataclass(frozen=True, slots=True)
class FoundCaptions:
    """Images in a fixed order with their captions.

    Attributes:
        images: member names.
        captions: one line each, in the same order.
        source: the table's name, or `BESIDE`.
        spare: captions that are not used because their image has another before them.
        rejected: what is not used, and why.
    """

    images: list[str]
    captions: list[str]
    source: str
    spare: int = 0
    rejected: list[Reject] = field(default_factory=list)


def find_captions(names: tuple[str, ...], read: Callable[[str], bytes]) -> FoundCaptions | None:
    """The images among `names` that have a caption; None if nothing says captions.

    Args:
        names: all members, sorted.
        read: content of a member.

    Raises:
        InvalidInputError: `invalid_reference_captions`: the table cannot be read.
    """
    contents = sort_members(names)
    if not contents.captioned:
        return None
    rejected = [Reject(name, "image_extension", "not PNG, JPEG or WEBP") for name in contents.others]
    if contents.caption_table is not None:
        return _from_table(contents, contents.caption_table, read, rejected)
    return _from_beside(contents, read, rejected)


def _from_beside(contents: Contents, read: Callable[[str], bytes], rejected: list[Reject]) -> FoundCaptions:
    images: list[str] = []
    captions: list[str] = []
    for image in contents.images:
        beside = contents.texts.get(image)
        if beside is None:
            rejected.append(Reject(image, "caption_missing", "no .txt or .json of its name"))
            continue
        try:
            captions.append(caption_beside(read(beside), beside))
        except (CaptionRejectedError, MemberUnreadableError) as error:
            rejected.append(Reject(beside, error.code, error.reason))
            continue
        images.append(image)
    return FoundCaptions(images, captions, BESIDE, rejected=rejected)


def _from_table(contents: Contents, table: str, read: Callable[[str], bytes], rejected: list[Reject]) -> FoundCaptions:
    name = PurePosixPath(table).name
    rows = _read_rows(table, name, read)
    first: dict[str, Row] = {}
    for row in rows:
        if row.error is None:
            first.setdefault(row.file, row)
        else:
            rejected.append(Reject(f"{name}, row {row.number}", row.error.code, row.error.reason))
    keys = {image: _key(image[len(contents.root) :], first) for image in contents.images}
    fits: dict[str, int] = {}
    for key in keys.values():
        if key is not None:
            fits[key] = fits.get(key, 0) + 1
    used: list[tuple[str, str]] = []
    for image, key in keys.items():
        if key is None:
            rejected.append(Reject(image, "caption_missing", f"no usable row in {name}"))
        elif fits[key] > 1:
            rejected.append(Reject(image, "caption_ambiguous", f"the row {key[:80]!r} fits {fits[key]} images"))
        else:
            used.append((image, first[key].caption))
    rejected += [
        Reject(f"{name}, row {row.number}", "caption_without_image", f"there is no image {key[:80]!r}")
        for key, row in first.items()
        if key not in fits
    ]
    spare = sum(row.error is None for row in rows) - len(first)
    return FoundCaptions([image for image, _ in used], [caption for _, caption in used], name, spare, rejected)


def _read_rows(table: str, name: str, read: Callable[[str], bytes]) -> list[Row]:
    try:
        content = read(table)
    except MemberUnreadableError as error:
        raise invalid_table(name, error.reason) from error
    rows = read_table(content, name)
    if not any(row.error is None for row in rows):
        first = f"row {rows[0].number}: {rows[0].error.reason}" if rows and rows[0].error else "it is empty"
        raise invalid_table(name, first)
    return rows


def _key(path: str, rows: dict[str, Row]) -> str | None:
    """What the table calls an image: its path, or its bare name."""
    return next((key for key in (path, PurePosixPath(path).name) if key in rows), None)
