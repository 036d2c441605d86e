"""One hostile file, and what must be said about it."""

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from core.errors import InvalidInputError, UnsafeError, UnsupportedError

#: Appears if a payload is ever run.
CANARY_FILE = Path(tempfile.gettempdir()) / f"assay-canary-{os.getpid()}"
SHELL = f"touch {CANARY_FILE}"
PYTHON = f"open({str(CANARY_FILE)!r}, 'w').close()"

_KINDS = {"unsafe": UnsafeError, "unsupported": UnsupportedError, "invalid": InvalidInputError}


@dataclass(frozen=True)
class Case:
    """A file as bytes (or a function that makes them), its name, the code of its refusal, and words of the reason.

    The code's first word says which kind of refusal it is.
    """

    name: str
    content: bytes | Callable[[], bytes]
    code: str
    words: tuple[str, ...] = ()
    filename: str = "model.pth"

    @property
    def kind(self) -> type[InvalidInputError]:
        return _KINDS[self.code.partition("_")[0]]

    def write(self, folder: Path) -> Path:
        path = folder / "blob"
        path.write_bytes(self.content if isinstance(self.content, bytes) else self.content())
        return path
