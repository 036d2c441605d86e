"""multipart/form-data whose files go straight to the store, part by part, and whose fields stay small."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.filenames import clean_filename
from core.errors import InvalidInputError
from core.storage.protocol import BlobStore, BlobWriter

_MAX_FIELD_BYTES = 16 * 1024
_MAX_HEADER_BYTES = 4 * 1024


def boundary_of(content_type: str) -> bytes:
    """The boundary of a multipart/form-data Content-Type.

    Raises:
        InvalidInputError: there is none.
    """
    _, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise InvalidInputError("invalid_form", "The multipart Content-Type has no usable boundary.")
    return bytes(boundary)


@dataclass(slots=True)
class FilePart:
    """A file that is being written, or is written but not committed."""

    filename: str
    writer: BlobWriter


@dataclass(slots=True)
class _Part:
    """The part that is being read."""

    headers: dict[str, bytes] = field(default_factory=dict)
    header_name: bytearray = field(default_factory=bytearray)
    header_value: bytearray = field(default_factory=bytearray)
    header_bytes: int = 0
    name: str = ""
    text: bytearray | None = None
    file: FilePart | None = None


class StreamedForm:
    """Feeds blocks to the parser; what it has read so far is in `fields` and `files`.

    Args:
        boundary: see boundary_of.
        store: where the files go; each is a temporary until its writer is committed.
        file_names: the form fields that are files; each at most once.
        field_names: the form fields that are text; each at most once.
        max_bytes: largest size of one file.

    Use as a context manager: what is not committed on leaving is gone. The methods block (disk).
    """

    def __init__(
        self,
        boundary: bytes,
        store: BlobStore,
        *,
        file_names: tuple[str, ...],
        field_names: tuple[str, ...],
        max_bytes: int,
    ) -> None:
        self.fields: dict[str, str] = {}
        self.files: dict[str, FilePart] = {}
        self._store = store
        self._file_names, self._field_names, self._max_bytes = file_names, field_names, max_bytes
        self._stack = ExitStack()
        self._part = _Part()
        self._ended = False
        callbacks: Any = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def __enter__(self) -> "StreamedForm":
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def write(self, block: bytes) -> None:
        """Raises InvalidInputError for anything that is not such a form."""
        try:
            self._parser.write(block)
        except FormParserError as error:
            raise _invalid(f"It cannot be parsed: {error}") from None

    def finish(self) -> None:
        """Raises InvalidInputError if the closing boundary has not been seen."""
        if not self._ended:
            raise _invalid("It ends before its closing boundary.")

    def _on_part_begin(self) -> None:
        self._part = _Part()

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._part.header_name += data[start:end]
        self._count_header(end - start)

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._part.header_value += data[start:end]
        self._count_header(end - start)

    def _count_header(self, size: int) -> None:
        self._part.header_bytes += size
        if self._part.header_bytes > _MAX_HEADER_BYTES:
            raise _invalid("The headers of a part are too long.")

    def _on_header_end(self) -> None:
        part = self._part
        part.headers[part.header_name.decode("latin-1").lower()] = bytes(part.header_value)
        part.header_name.clear()
        part.header_value.clear()

    def _on_headers_finished(self) -> None:
        part = self._part
        kind, options = parse_options_header(part.headers.get("content-disposition", b""))
        if kind != b"form-data" or b"name" not in options:
            raise _invalid("A part has no name.")
        part.name = options[b"name"].decode("utf-8", "replace")
        if part.name in self.fields or part.name in self.files:
            raise _invalid(f"The field {part.name[:80]!r} occurs twice.")
        if part.name in self._file_names:
            filename = clean_filename(options.get(b"filename", b"").decode("utf-8", "replace"), default=part.name)
            writer = self._stack.enter_context(self._store.writer(self._max_bytes))
            part.file = self.files[part.name] = FilePart(filename, writer)
        elif part.name in self._field_names:
            part.text = bytearray()
        else:
            known = ", ".join(self._file_names + self._field_names)
            raise _invalid(f"There is no field {part.name[:80]!r}.", f"Fields: {known}.")

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        part = self._part
        if part.file is not None:
            part.file.writer.write(memoryview(data)[start:end])
        elif part.text is not None:
            part.text += data[start:end]
            if len(part.text) > _MAX_FIELD_BYTES:
                raise _invalid(f"The field {part.name!r} is too long.")

    def _on_part_end(self) -> None:
        if self._part.text is not None:
            try:
                self.fields[self._part.name] = self._part.text.decode()
            except UnicodeDecodeError:
                raise _invalid(f"The field {self._part.name!r} is not UTF-8 text.") from None

    def _on_end(self) -> None:
        self._ended = True


def _invalid(detail: str, hint: str = "") -> InvalidInputError:
    return InvalidInputError("invalid_form", f"The form is not valid. {detail}", hint)
