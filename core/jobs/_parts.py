"""What every part of the job service holds on to."""

from datetime import timedelta

from core.registry.session import Database
from core.settings import Settings
from core.storage.protocol import BlobStore


class ServiceParts:
    """The collaborators of the job service. Each public method of its subclasses is one transaction.

    Args:
        db: migrated.
        store: where blobs are; consulted when they are registered or removed.
        settings: intervals and caps.
    """

    def __init__(self, db: Database, store: BlobStore, settings: Settings) -> None:
        self._db = db
        self._store = store
        self._settings = settings

    @property
    def _lease(self) -> timedelta:
        return timedelta(seconds=self._settings.lease_s)
