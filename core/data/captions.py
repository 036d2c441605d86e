"""What a caption may be, and how tables and files beside images say it."""

import csv
import io
import json
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from core.data.rejects import CaptionRejectedError
from core.errors import InvalidInputError

#: Text towers read 77 tokens or fewer; nothing a caption says is longer than this.
MAX_CAPTION = 1_000
MAX_TABLE_BYTES = 16 << 20
_FILE_COLUMNS = ("file_name", "filename", "file", "image", "path", "filepath")
_TEXT_COLUMNS = ("caption", "captions", "text", "sentence", "prompt")
_HINT = (
    "Two columns, file and caption, in captions.csv or captions.tsv; or one object a line with these keys in "
    "captions.jsonl. UTF-8."
)
# Whoever reads a caption in a report shall see it in the order in which it is written.
_DIRECTIONS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: which image, and its text or what is wrong with it."""

    number: int
    file: str
    caption: str
    error: CaptionRejectedError | None = None


def clean_caption(text: str) -> str:
    """`text` on one line, in composed form (NFC).

    Raises:
        CaptionRejectedError: `caption_encoding`, `caption_empty`, `caption_control`, `caption_too_long`.
    """
    if any("\ud800" <= char <= "\udfff" for char in text):  # what surrogateescape made of foreign bytes
        raise CaptionRejectedError("caption_encoding", "the caption is no UTF-8 text")
    line = unicodedata.normalize("NFC", " ".join(text.split()))
    if not line:
        raise CaptionRejectedError("caption_empty", "the caption is empty")
    if any(unicodedata.category(char) == "Cc" or char in _DIRECTIONS for char in line):
        raise CaptionRejectedError("caption_control", "the caption holds control or direction characters")
    if len(line) > MAX_CAPTION:
        raise CaptionRejectedError("caption_too_long", f"the caption has {len(line)} characters; at most {MAX_CAPTION}")
    return line


def caption_beside(content: bytes, name: str) -> str:
    """The caption in a .txt or .json file beside an image; of several the first.

    Raises:
        CaptionRejectedError: as `clean_caption`; `caption_row`: JSON that names none.
    """
    text = content.decode("utf-8-sig", "surrogateescape")
    if PurePosixPath(name).suffix.lower() != ".json":
        return clean_caption(text)
    return clean_caption(_first_text(_object(text)))


def read_table(content: bytes, name: str) -> list[Row]:
    """The rows of a table of captions: csv, tsv (with or without a header) or jsonl.

    Raises:
        InvalidInputError: `invalid_reference_captions`: it is no table.
    """
    if len(content) > MAX_TABLE_BYTES:
        raise invalid_table(name, f"longer than {MAX_TABLE_BYTES >> 20} MiB")
    text = content.decode("utf-8-sig", "surrogateescape")  # a row that is no UTF-8 is told as a row
    suffix = PurePosixPath(name).suffix
    if suffix == ".jsonl":
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        return [_json_row(number, line) for number, line in lines]
    try:
        table = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t" if suffix == ".tsv" else ","))
    except csv.Error as error:
        raise invalid_table(name, str(error)) from error
    return _rows(table)


def invalid_table(name: str, reason: str) -> InvalidInputError:
    """A table of captions that cannot be used as a whole."""
    return InvalidInputError("invalid_reference_captions", f"{name} cannot be read: {reason}.", _HINT)


def _rows(table: list[list[str]]) -> list[Row]:
    rows: list[Row] = []
    file_column, text_column = 0, 1
    for number, cells in enumerate(table, start=1):
        if not any(cell.strip() for cell in cells):
            continue
        header = [cell.strip().lower() for cell in cells]
        text_header = next((header.index(key) for key in _TEXT_COLUMNS if key in header), None)
        if number == 1 and text_header is not None and len(header) >= 2:
            file_column = next((header.index(key) for key in _FILE_COLUMNS if key in header), 0)
            text_column = text_header
            continue
        if len(cells) <= max(file_column, text_column):
            rows.append(Row(number, "", "", CaptionRejectedError("caption_row", "a file and a caption are expected")))
        else:
            rows.append(_row(number, cells[file_column], cells[text_column]))
    return rows


def _json_row(number: int, line: str) -> Row:
    try:
        value = _object(line)
        file = next((value[key] for key in _FILE_COLUMNS if isinstance(value.get(key), str)), "")
        return _row(number, file, _first_text(value))
    except CaptionRejectedError as error:
        return Row(number, "", "", error)


def _row(number: int, file: str, text: str) -> Row:
    file = file.strip().removeprefix("./")
    if not file:
        return Row(number, "", "", CaptionRejectedError("caption_row", "no file is named"))
    try:
        return Row(number, file, clean_caption(text))
    except CaptionRejectedError as error:
        return Row(number, file, "", error)


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise CaptionRejectedError("caption_row", "no JSON object") from None
    if not isinstance(value, dict):
        raise CaptionRejectedError("caption_row", "no JSON object")
    return value


def _first_text(value: dict[str, Any]) -> str:
    """The caption of a JSON object; of a list the first."""
    for key in _TEXT_COLUMNS:
        text = value.get(key)
        if isinstance(text, list) and text:
            text = text[0]
        if isinstance(text, str):
            return text
    raise CaptionRejectedError("caption_row", f"none of the keys {', '.join(_TEXT_COLUMNS)} holds text")
