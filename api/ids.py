"""The shape of identifiers: what does not have it cannot exist, and never reaches the database."""

import re

from core.errors import NotFoundError

_ID = re.compile(r"[a-z]{2,16}_[0-9a-z_]{1,64}")


def known_shape(value: str, prefix: str, kind: str = "") -> str:
    """Returns `value` if it can be the id of a `kind` ("scan", "model"), which is its prefix unless given.

    Raises:
        NotFoundError: `<kind>_not_found`, the same answer as for an id nobody has.
    """
    if not _ID.fullmatch(value) or not value.startswith(f"{prefix}_"):
        raise not_found(kind or prefix)
    return value


def not_found(kind: str) -> NotFoundError:
    """The answer for an unknown id and for one of another organisation."""
    return NotFoundError(f"{kind}_not_found", f"There is no such {kind.replace('_', ' ')}.")
