"""Hub tokens: one per organisation and endpoint, sealed in the database, opened only to be sent to that endpoint."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from pydantic import SecretStr

from core.errors import InvalidInputError, NotFoundError
from core.registry.repositories.hub_tokens import HubTokenRepository
from core.registry.repositories.keys import ApiKeyRepository
from core.registry.secrets import SecretBox
from core.registry.session import Database

_TOKEN = re.compile(r"[!-~]{8,512}")


@dataclass(frozen=True, slots=True)
class HubTokenView:
    """That there is a token; nothing of it is shown."""

    org_id: str
    endpoint: str
    created_at: datetime


class HubTokens:
    """Tokens of all organisations. Each method is one transaction.

    Args:
        open_box: makes the box they are sealed in; asked only when a token is set or used.
    """

    def __init__(self, db: Database, open_box: Callable[[], SecretBox]) -> None:
        self._db, self._open_box = db, open_box

    def set(self, org_id: str, endpoint: str, token: SecretStr) -> HubTokenView:
        """Keep a token, instead of the one there was.

        Raises:
            InvalidInputError: `invalid_hub_token`, this cannot be one.
            NotFoundError: `org_not_found`.
            SecretKeyError: there is no usable secret key.
        """
        if not _TOKEN.fullmatch(token.get_secret_value()):
            raise InvalidInputError("invalid_hub_token", "This is no token: 8 to 512 ASCII characters without blanks.")
        sealed = self._open_box().seal(token.get_secret_value(), _context(org_id, endpoint))
        with self._db.begin() as session:
            if not ApiKeyRepository(session).org_exists(org_id):
                raise NotFoundError("org_not_found", "There is no such organisation.")
            now = self._db.now(session)
            HubTokenRepository(session).put(org_id, endpoint, sealed, now)
            return HubTokenView(org_id, endpoint, now)

    def get(self, org_id: str, endpoint: str) -> SecretStr | None:
        """The organisation's token for that endpoint. Raises SecretKeyError if there is one and it cannot be opened."""
        with self._db.read() as session:
            row = HubTokenRepository(session).get(org_id, endpoint)
        return None if row is None else self._open_box().open(row.ciphertext, _context(org_id, endpoint))

    def list(self, org_id: str) -> list[HubTokenView]:
        """For which endpoints the organisation has tokens."""
        with self._db.read() as session:
            rows = HubTokenRepository(session).of_org(org_id)
        return [HubTokenView(row.org_id, row.endpoint, row.created_at) for row in rows]

    def remove(self, org_id: str, endpoint: str) -> None:
        """Forget the token. Raises NotFoundError (`hub_token_not_found`)."""
        with self._db.begin() as session:
            if not HubTokenRepository(session).delete(org_id, endpoint):
                raise token_not_found()


def token_not_found() -> NotFoundError:
    """The answer where there is none."""
    return NotFoundError("hub_token_not_found", "There is no token for this Hub.")


def _context(org_id: str, endpoint: str) -> str:
    """What a sealed token is bound to: copied to another row, it cannot be opened."""
    return f"hub token\n{org_id}\n{endpoint}"
