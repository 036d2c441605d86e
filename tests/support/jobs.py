"""A migrated database, a store and a job service, with scans whose "models" tell stand-in children what to do."""

import itertools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from core.config import ScanConfig
from core.domain import JobState
from core.hub.reference import HubRef
from core.jobs.service import JobService, ScanView, SubmitScan
from core.registry.session import Database
from core.settings import Settings
from core.storage.local import LocalBlobStore
from tests.support.processes import wait_until
from worker.hub import hub_desk
from worker.materials import Materials

ORG = "org_default"
_numbers = itertools.count()

#: Intervals for tests: a lost worker is noticed within seconds.
QUICK: dict[str, Any] = {
    "lease_s": 2.5,
    "renew_s": 0.5,
    "sweep_s": 0.3,
    "republish_s": 1.0,
    "threads": 1,
    "free_space_reserve_bytes": 0,
}


class Desk:
    """Submits scripted scans and watches them, as the API does."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.db = Database(settings.resolved_database_url)
        self.db.upgrade()
        self.store = LocalBlobStore(settings.blobs_dir, settings.free_space_reserve_bytes)
        self.service = JobService(self.db, self.store, settings)
        self.desk = hub_desk(settings, self.db)
        self.log = settings.data_dir / "children.log"

    def upload(self, data: bytes) -> str:
        """Store bytes for the organisation; returns their digest."""
        with self.store.writer() as writer:
            writer.write(data)
            blob = writer.commit()
        self.service.register_blob(ORG, blob)
        return blob.sha256

    def submit(self, config: ScanConfig | None = None, **script: Any) -> str:
        """Queue a scan whose children follow `script` (see fake_children/child.py); returns its id."""
        model = self.upload(self.script(**script))
        return self.submit_blob(model, "model.json", None, config or ScanConfig())

    def submit_blob(self, model: str, filename: str, reference: str | None, config: ScanConfig) -> str:
        return self.service.submit(ORG, SubmitScan(model, filename, reference, config, False)).scan.id

    def submit_hub(self, repo: str, revision: str = "main") -> str:
        """Queue a scan of a Hub reference, as the API does."""
        materials = Materials(self.service, self.store, self.desk)
        contents = materials.resolve(ORG, HubRef(repo, revision))
        request = SubmitScan(contents.manifest.sha256, repo, None, ScanConfig(), False, contents)
        return self.service.submit(ORG, request).scan.id

    def script(self, **script: Any) -> bytes:
        """A config.json that stand-in children follow."""
        return json.dumps({"name": next(_numbers), "log": str(self.log), **script}).encode()

    def view(self, scan_id: str) -> ScanView:
        return self.service.get(ORG, scan_id)

    def state(self, scan_id: str) -> JobState:
        return self.view(scan_id).state

    def wait(self, scan_id: str, *states: JobState, timeout_s: float = 60.0) -> ScanView:
        """Wait for one of `states` (any terminal one if none are given)."""
        wanted = set(states) or {state for state in JobState if state.is_terminal}
        wait_until(lambda: self.state(scan_id) in wanted, timeout_s, f"{scan_id} in {wanted}")
        return self.view(scan_id)

    def wait_for_stage(self, scan_id: str, stage: str, timeout_s: float = 60.0) -> None:
        """Wait until the scan reports `stage`."""
        wait_until(lambda: self.view(scan_id).stage == stage, timeout_s, f"{scan_id} in {stage}")

    def logged(self, word: str, scan_id: str) -> list[int]:
        """Process ids of the computing children that wrote `word` ("started", "finished", "stopped")."""
        if not self.log.exists():
            return []
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [int(pid) for said, scan, pid in lines if (said, scan) == (word, scan_id)]

    def left_overs(self) -> list[str]:
        """Job folders that still exist."""
        root = self.settings.data_dir / "work"
        return [path.name for path in root.iterdir()] if root.exists() else []

    def artifacts_of(self, scan_id: str) -> list[str]:
        """Digests of the files the scan produced."""
        return [artifact.sha256 for artifact in self.view(scan_id).artifacts]


@contextmanager
def desk(data_dir: Path, **settings: Any) -> Iterator[Desk]:
    """A Desk over `data_dir`, on SQLite unless `database_url` says otherwise."""
    made = Desk(Settings(data_dir=data_dir, **{**QUICK, **settings}))
    try:
        yield made
    finally:
        made.db.dispose()
