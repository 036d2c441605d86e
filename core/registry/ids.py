"""Identifiers: opaque to clients, ordered by time for us."""

import secrets
from datetime import datetime

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32, lower case
_DIGITS = 26

#: The organisation of an installation that has only one; made by the first migration.
DEFAULT_ORG = "org_default"


def new_id(kind: str, now: datetime) -> str:
    """`kind`, an underscore and 26 base-32 digits: 48 bits of milliseconds, then 80 random bits.

    Ids of one kind sort by `now`, so that they serve as the key of a page.
    """
    value = int(now.timestamp() * 1000) << 80 | secrets.randbits(80)
    digits = [_ALPHABET[value >> 5 * i & 31] for i in reversed(range(_DIGITS))]
    return f"{kind}_{''.join(digits)}"
