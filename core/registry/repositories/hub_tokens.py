"""Sealed Hub tokens of organisations."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select

from core.registry.orm import HubToken
from core.registry.repositories._base import Repository


class HubTokenRepository(Repository):
    """Rows of tokens; plaintexts never reach it."""

    def put(self, org_id: str, endpoint: str, ciphertext: str, now: datetime) -> None:
        """Instead of the one there was."""
        self.delete(org_id, endpoint)
        self._session.add(HubToken(org_id=org_id, endpoint=endpoint, ciphertext=ciphertext, created_at=now))

    def get(self, org_id: str, endpoint: str) -> HubToken | None:
        return self._session.scalar(select(HubToken).where(HubToken.org_id == org_id, HubToken.endpoint == endpoint))

    def of_org(self, org_id: str) -> Sequence[HubToken]:
        return self._session.scalars(
            select(HubToken).where(HubToken.org_id == org_id).order_by(HubToken.endpoint)
        ).all()

    def delete(self, org_id: str, endpoint: str) -> bool:
        """Whether there was one."""
        statement = (
            delete(HubToken)
            .where(HubToken.org_id == org_id, HubToken.endpoint == endpoint)
            .returning(HubToken.org_id)
            .execution_options(synchronize_session=False)
        )
        return self._session.execute(statement).first() is not None
