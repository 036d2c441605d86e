"""API keys: made, shown once, checked, revoked."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.errors import InvalidInputError, NotFoundError, UnauthorizedError
from core.registry.ids import new_id
from core.registry.orm import ApiKey
from core.registry.repositories.keys import ApiKeyRepository
from core.registry.session import Database

_FORM = re.compile(r"assay_([0-9a-f]{12})_[0-9a-f]{64}")
_TOUCH_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, and what they may do."""

    org_id: str
    key_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class ApiKeyView:
    """A key as its organisation sees it; the plaintext is not kept anywhere."""

    id: str
    org_id: str
    name: str
    prefix: str  # the middle part of the plaintext
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute


class ApiKeyService:
    """Keys of all organisations. Each method is one transaction, except that a use is noted in another one."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def create_org(self, name: str) -> str:
        """A new organisation; returns its id."""
        with self._db.begin() as session:
            now = self._db.now(session)
            org_id = new_id("org", now)
            ApiKeyRepository(session).add_org(org_id, name[:255], now)
            return org_id

    def create(
        self, org_id: str, name: str, scopes: Iterable[str], expires_at: datetime | None = None
    ) -> tuple[str, ApiKeyView]:
        """A new key: the plaintext, which cannot be had again, and what is kept.

        Raises:
            NotFoundError: `org_not_found`.
            InvalidInputError: `scopes_required`, a key that may do nothing.
        """
        prefix = secrets.token_hex(6)
        plaintext = f"assay_{prefix}_{secrets.token_hex(32)}"
        granted = sorted({str(scope) for scope in scopes})
        if not granted:
            raise InvalidInputError("scopes_required", "A key needs at least one scope.")
        with self._db.begin() as session:
            keys, now = ApiKeyRepository(session), self._db.now(session)
            if not keys.org_exists(org_id):
                raise NotFoundError("org_not_found", "There is no such organisation.")
            key = ApiKey(
                id=new_id("key", now),
                org_id=org_id,
                name=name[:255],
                prefix=prefix,
                hash=_hash(plaintext),
                scopes=granted,
                created_at=now,
                expires_at=expires_at,
            )
            keys.add(key)
            session.flush()
            return plaintext, _view(key)

    def list(self, org_id: str) -> list[ApiKeyView]:
        """All keys of the organisation, oldest first, revoked ones included."""
        with self._db.read() as session:
            return [_view(key) for key in ApiKeyRepository(session).of_org(org_id)]

    def revoke(self, org_id: str, key_id: str) -> ApiKeyView:
        """Make the key worthless at once. Raises NotFoundError (`key_not_found`)."""
        with self._db.begin() as session:
            key = ApiKeyRepository(session).revoke(org_id, key_id, self._db.now(session))
            if key is None:
                raise NotFoundError("key_not_found", "There is no such key.")
            return _view(key)

    def authenticate(self, plaintext: str) -> Principal:
        """Who holds this key. Nothing is cached: a revoked key fails with the next request.

        Raises:
            UnauthorizedError: `invalid_key`, always with the same words.
        """
        form = _FORM.fullmatch(plaintext)
        if form is None:
            raise _invalid()
        with self._db.read() as session:
            now = self._db.now(session)
            key = ApiKeyRepository(session).by_prefix(form.group(1))
        if key is None or not hmac.compare_digest(key.hash, _hash(plaintext)):
            raise _invalid()
        if key.revoked_at is not None or (key.expires_at is not None and key.expires_at <= now):
            raise _invalid()
        if key.last_used_at is None or key.last_used_at < now - _TOUCH_EVERY:
            with self._db.begin() as session:
                ApiKeyRepository(session).touch(key.id, now, now - _TOUCH_EVERY)
        return Principal(key.org_id, key.id, frozenset(key.scopes))

    def any_active(self) -> bool:
        """Whether there is any key that works."""
        with self._db.read() as session:
            return ApiKeyRepository(session).any_active(self._db.now(session))


def _hash(plaintext: str) -> str:
    """Plain SHA-256 is enough: the secret part has 256 random bits."""
    return hashlib.sha256(plaintext.encode()).hexdigest()


def _invalid() -> UnauthorizedError:
    return UnauthorizedError("invalid_key", "This API key is not valid.")


def _view(key: ApiKey) -> ApiKeyView:
    return ApiKeyView(
        id=key.id,
        org_id=key.org_id,
        name=key.name,
        prefix=key.prefix,
        scopes=tuple(key.scopes),
        created_at=key.created_at,
        expires_at=key.expires_at,
        revoked_at=key.revoked_at,
        last_used_at=key.last_used_at,
    )
