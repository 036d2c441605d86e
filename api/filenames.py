"""File names from clients are for display only (never paths, never raw in a header)."""

import unicodedata
from urllib.parse import quote

MAX_LENGTH = 255

# Control, bidirectional and zero-width, surrogate, private, unassigned, line and paragraph separators.
_FORBIDDEN_CATEGORIES = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def clean_filename(name: str, default: str = "model") -> str:
    """`name` without folders, control and bidirectional characters; NFC; at most 255 characters, the ending kept."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rsplit("/", 1)[-1])
    name = "".join(c for c in name if unicodedata.category(c) not in _FORBIDDEN_CATEGORIES).strip()
    if name.strip(". ") == "":
        return default
    if len(name) > MAX_LENGTH:
        stem, dot, ending = name.rpartition(".")
        if not dot or len(ending) > 16:
            return name[:MAX_LENGTH]
        name = f"{stem[: MAX_LENGTH - len(ending) - 1]}.{ending}"
    return name


def content_disposition(name: str) -> str:
    """An RFC 6266 attachment header: a plain ASCII name, and the real one percent-encoded."""
    name = clean_filename(name)
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._- ") else "_" for c in name)
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"
