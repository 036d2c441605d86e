"""A Parquet file of images as the members of a reference set: an image a row, its caption and its class beside it.

The layout is that of image data sets on the Hub: images are bytes, or {bytes, path}. Arrow is imported where such a
file is read, which is in the sandbox.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.data.image_rules import JPEG, PNG, WEBP, magic_of
from core.errors import InvalidInputError, UnsupportedError

#: Rows that are read; of more, every n-th, so that classes in their order stay.
MAX_ROWS = 2_000
MAX_BYTES = 1 << 30
_MAGIC = b"PAR1"
_BATCH = 16
_SUFFIXES = {PNG: ".png", JPEG: ".jpg", WEBP: ".webp"}
_IMAGE_NAMES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "image_bytes", "bytes")
_TEXT_NAMES = ("caption", "captions", "text", "txt", "sentence", "prompt")
_LABEL_NAMES = ("label", "labels", "cls", "class", "fine_label", "category", "target")
_HINT = (
    "A column of images ({bytes, path}, or binary, called image), and if there are any a column called caption or "
    "text, and one called label."
)


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns count; `names` are the label's own, by index."""

    image: str
    nested: bool
    caption: str | None
    label: str | None
    names: tuple[str, ...]

    @property
    def wanted(self) -> list[str]:
        image = f"{self.image}.bytes" if self.nested else self.image
        return [image, *filter(None, (self.caption, self.label))]


def is_parquet(head: bytes) -> bool:
    """Whether a file that begins so is Parquet."""
    return head.startswith(_MAGIC)


def parquet_members(path: Path) -> tuple[tuple[str, ...], Callable[[str], bytes]]:
    """(names, read) of what a file's rows are: `row-0000017.png`, with .txt and .cls where there is text and class.

    Raises:
        InvalidInputError: `invalid_parquet`: damaged; `reference_too_large`.
        UnsupportedError: `unsupported_parquet`: no column of images.
    """
    import pyarrow as pa  # 0.2 s and 40 MB: only where it is needed
    from pyarrow import parquet

    members: dict[str, bytes] = {}
    total = 0
    try:
        with parquet.ParquetFile(path) as file:
            columns = _columns(file.schema_arrow)
            for number, row in _rows(file, columns):
                for name, content in _files(number, row, columns):
                    members[name] = content
                    total += len(content)
                if total > MAX_BYTES:
                    raise InvalidInputError(
                        "reference_too_large",
                        f"The images of the Parquet file have more than {MAX_BYTES >> 20} MiB together.",
                        "Send fewer or smaller images.",
                    )
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(
            "invalid_parquet",
            f"The Parquet file cannot be read: {str(error).splitlines()[0][:200] if str(error) else 'damaged'}.",
            "Write it again, for instance with datasets' to_parquet.",
        ) from error
    return tuple(sorted(members)), members.__getitem__


def _columns(schema: Any) -> _Columns:
    from pyarrow import types

    def is_bytes(kind: Any) -> bool:
        return bool(types.is_binary(kind) or types.is_large_binary(kind))

    def is_text(kind: Any) -> bool:
        kind = kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind
        return bool(types.is_string(kind) or types.is_large_string(kind))

    def is_label(kind: Any) -> bool:
        return bool(types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind))

    kinds = {field.name: field.type for field in schema}
    nested = {
        name
        for name, kind in kinds.items()
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0 and is_bytes(kind.field("bytes").type)
    }
    images = [name for name in _IMAGE_NAMES if name in nested or (name in kinds and is_bytes(kinds[name]))]
    image = images[0] if images else next(iter(nested), None)
    if image is None:
        shown = ", ".join(f"{name[:40]} ({str(kind)[:40]})" for name, kind in list(kinds.items())[:8])
        raise UnsupportedError(
            "unsupported_parquet", f"No column of the Parquet file holds the bytes of images: {shown}.", _HINT
        )
    return _Columns(
        image=image,
        nested=image in nested,
        caption=next((name for name in _TEXT_NAMES if name in kinds and is_text(kinds[name])), None),
        label=(label := next((name for name in _LABEL_NAMES if name in kinds and is_label(kinds[name])), None)),
        names=() if label is None else _class_names(schema.metadata or {}, label),
    )


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    """What the library datasets notes about a column of classes; empty without."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        names = features[label]["names"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _rows(file: Any, columns: _Columns) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number, its values) of the rows that count."""
    step = max(1, -(-file.metadata.num_rows // MAX_ROWS))
    number = 0
    batches = file.iter_batches(batch_size=_BATCH, columns=columns.wanted, use_threads=False)
    for batch in batches:
        for place in range(-number % step, batch.num_rows, step):
            yield number + place, {name: batch.column(name)[place].as_py() for name in batch.schema.names}
        number += batch.num_rows


def _files(number: int, row: dict[str, Any], columns: _Columns) -> Iterator[tuple[str, bytes]]:
    stem = f"row-{number:07}"
    image = row[columns.image]
    content: bytes = (image or {}).get("bytes") or b"" if columns.nested else image or b""
    yield stem + _SUFFIXES.get(magic_of(content) or PNG, ".png"), content
    if columns.caption is not None:
        text = row[columns.caption]
        text = text[0] if isinstance(text, list) and text else text
        yield f"{stem}.txt", (text or "").encode() if isinstance(text, str | None) else b""
    if columns.label is not None:
        label = row[columns.label]
        if isinstance(label, int) and 0 <= label < len(columns.names):
            label = f"{label}-{columns.names[label]}"
        if label is not None and label != -1:  # how datasets writes that there is none
            yield f"{stem}.cls", str(label).encode()
