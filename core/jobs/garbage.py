"""Store and registry side by side: what is in one and not in the other."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from core.errors import NotFoundError
from core.registry.repositories.blobs import BlobRepository
from core.registry.session import Database
from core.storage.protocol import BlobStore

#: A file this young may belong to an upload or a scan whose row is about to be committed.
GRACE_S = 3600.0
_BATCH = 500


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What fsck found."""

    missing: list[str]  # rows without bytes, or with bytes of another size
    orphans_removed: int  # bytes without a row
    temp_removed: int  # left behind by interrupted uploads


def remove_unknown(db: Database, store: BlobStore, digests: Sequence[str], stored_before: float | None = None) -> int:
    """Remove those blobs that have no row, and were last stored before `stored_before` (epoch); returns how many.

    Nobody can register one of them meanwhile: whoever does checks, under the same lock, that the bytes are there.
    """
    if not digests:
        return 0
    with db.begin() as session:
        db.lock_blobs(session, exclusive=True)
        unknown = set(digests) - BlobRepository(session).known(digests)
        return sum(store.delete(sha256) for sha256 in unknown if _is_old(store, sha256, stored_before))


def _is_old(store: BlobStore, sha256: str, limit: float | None) -> bool:
    try:
        return limit is None or store.modified_at(sha256) < limit
    except NotFoundError:  # deleted meanwhile
        return False


def fsck(db: Database, store: BlobStore, grace_s: float = GRACE_S) -> StoreCheck:
    """Remove old bytes nobody knows, and say which known bytes are missing. Contents are verified when opened."""
    limit = time.time() - grace_s
    old = [blob.sha256 for blob in store.iter() if _is_old(store, blob.sha256, limit)]
    removed = sum(remove_unknown(db, store, old[i : i + _BATCH], limit) for i in range(0, len(old), _BATCH))
    with db.read() as session:
        expected = BlobRepository(session).all()
    missing = [sha256 for sha256, size in expected if not (store.exists(sha256) and store.size(sha256) == size)]
    return StoreCheck(missing, removed, store.collect_temp(grace_s))
