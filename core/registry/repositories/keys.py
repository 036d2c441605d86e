"""API keys and organisations."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import or_, select, update

from core.registry.orm import ApiKey, Org
from core.registry.repositories._base import Repository


class ApiKeyRepository(Repository):
    """Rows of keys; plaintexts never reach it."""

    def add_org(self, org_id: str, name: str, now: datetime) -> None:
        self._session.add(Org(id=org_id, name=name, created_at=now))

    def org_exists(self, org_id: str) -> bool:
        return self._session.get(Org, org_id) is not None

    def add(self, key: ApiKey) -> None:
        self._session.add(key)

    def of_org(self, org_id: str) -> Sequence[ApiKey]:
        """Oldest first."""
        return self._session.scalars(select(ApiKey).where(ApiKey.org_id == org_id).order_by(ApiKey.id)).all()

    def by_prefix(self, prefix: str) -> ApiKey | None:
        return self._session.scalar(select(ApiKey).where(ApiKey.prefix == prefix))

    def revoke(self, org_id: str, key_id: str, now: datetime) -> ApiKey | None:
        """Mark the key as revoked (once); None if the organisation has no such key."""
        self._session.execute(
            update(ApiKey)
            .where(ApiKey.org_id == org_id, ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
            .values(revoked_at=now)
            .execution_options(synchronize_session=False)
        )
        return self._session.scalar(select(ApiKey).where(ApiKey.org_id == org_id, ApiKey.id == key_id))

    def touch(self, key_id: str, now: datetime, not_since: datetime) -> None:
        """Note a use, unless one was noted since `not_since`."""
        self._session.execute(
            update(ApiKey)
            .where(ApiKey.id == key_id, or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < not_since))
            .values(last_used_at=now)
            .execution_options(synchronize_session=False)
        )

    def any_active(self, now: datetime) -> bool:
        """Whether any organisation has a key that works."""
        statement = select(ApiKey.id).where(
            ApiKey.revoked_at.is_(None), or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > now)
        )
        return self._session.scalar(statement.limit(1)) is not None
