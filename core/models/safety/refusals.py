"""The errors of the gate: each names the file, the member if there is one, and the reason."""

import unicodedata
from dataclasses import dataclass

from core.errors import InvalidInputError, UnsafeError, UnsupportedError

AGAIN = "Compare the file's digest with the one at its source and upload it again."
SAVE_WEIGHTS = "Save the weights alone: torch.save(model.state_dict(), 'model.pth'), or safetensors."
REPACK = "Pack the files again with an ordinary zip program, or upload them as a folder."

_SHOWN = 120


def shown(text: str) -> str:
    """A name out of a file, fit for a message: one line, no control or direction characters, not long."""
    clean = "".join("?" if unicodedata.category(char)[0] in "CZ" and char != " " else char for char in text[:_SHOWN])
    return clean + ("..." if len(text) > _SHOWN else "")


@dataclass(frozen=True, slots=True)
class Subject:
    """The file that is looked at, by the name its owner gave it."""

    name: str

    def invalid(self, code: str, reason: str, hint: str = AGAIN, member: str | None = None) -> InvalidInputError:
        """Broken: not what its format says."""
        return InvalidInputError(code, self._detail(reason, member), hint)

    def unsupported(
        self, code: str, reason: str, hint: str = SAVE_WEIGHTS, member: str | None = None
    ) -> UnsupportedError:
        """Well-formed, but nothing this version reads."""
        return UnsupportedError(code, self._detail(reason, member), hint)

    def unsafe(self, code: str, reason: str, hint: str = SAVE_WEIGHTS, member: str | None = None) -> UnsafeError:
        """It would execute or smuggle something."""
        return UnsafeError(code, self._detail(reason, member), hint)

    def _detail(self, reason: str, member: str | None) -> str:
        where = shown(self.name) or "the file"
        return f"{where}, {shown(member)}: {reason}" if member is not None else f"{where}: {reason}"
