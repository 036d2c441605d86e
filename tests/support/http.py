"""The real app for tests: in process with a client, or behind a real server on a spare port.

Its queue is a Redis that does not exist: scans stay queued, and a test acts as the worker (see Harness.finish).
"""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from fastapi.testclient import TestClient

from api.app import create_app
from api.auth import Scope
from api.deps import Services
from core import ENGINE_VERSION
from core.config import ScanConfig
from core.domain import ArtifactRole, Preset, PurificationStatus, PurifyMode, Verdict
from core.jobs.service import ClaimedJob
from core.registry.ids import DEFAULT_ORG
from core.report.schema import (
    ArtifactInfo,
    Detection,
    EngineInfo,
    ModelInfo,
    PreprocessInfo,
    Purification,
    ReferenceInfo,
    Report,
    Statistic,
    ThresholdProvenance,
    Utility,
    Verification,
)
from core.settings import Settings
from tests.support.databases import fresh_database

MIB = 1024 * 1024
ALL_SCOPES = tuple(scope.value for scope in Scope)


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256."""
    return hashlib.sha256(data).hexdigest()


@dataclass
class Harness:
    """The app's services, and keys to talk to it."""

    services: Services
    key: str  # everything, in the default organisation

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    def new_key(self, *scopes: str, org_id: str = DEFAULT_ORG) -> dict[str, str]:
        """Headers with a new key."""
        plaintext, _ = self.services.keys.create(org_id, "test", scopes or ALL_SCOPES)
        return {"Authorization": f"Bearer {plaintext}"}

    def new_org(self) -> tuple[str, dict[str, str]]:
        """Another organisation, and headers with a key of it that may do everything."""
        org_id = self.services.keys.create_org("other")
        return org_id, self.new_key(org_id=org_id)

    def claim(self, scan_id: str) -> ClaimedJob:
        claim = self.services.jobs.claim(scan_id, "test")
        assert claim is not None
        return claim

    def finish(self, scan_id: str, verdict: Verdict = Verdict.CLEAN, purified: bytes | None = None) -> ClaimedJob:
        """Do what a worker does: claim, store, commit."""
        claim = self.claim(scan_id)
        artifacts = []
        if purified is not None:
            with self.services.store.writer() as writer:
                writer.write(purified)
                blob = writer.commit()
            artifacts.append(
                ArtifactInfo(
                    role=ArtifactRole.PURIFIED_ORIGINAL,
                    sha256=blob.sha256,
                    size_bytes=blob.size_bytes,
                    filename="purified modèle.pth",
                    media_type="application/octet-stream",
                )
            )
        report = make_report(claim, verdict, artifacts)
        assert self.services.jobs.succeed(claim, report, artifacts)
        return claim


def make_report(claim: ClaimedJob, verdict: Verdict, artifacts: list[ArtifactInfo]) -> Report:
    """A report as the engine writes it, with invented figures."""
    detection = Detection(
        verdict=verdict,
        score=2.5 if verdict is Verdict.BACKDOORED else 0.2,
        threshold=1.0,
        provenance=ThresholdProvenance(calibration="test", clean_models=1, backdoored_models=1, note=""),
        statistics=[
            Statistic(name="energy_gap", value=0.3, threshold=0.2, direction="above", suspicious=True, description="")
        ],
        targets=[],
        coverage=["test"],
        reasons=["invented"],
    )
    clean = detection.model_copy(update={"verdict": Verdict.CLEAN, "score": 0.1})
    status = PurificationStatus.PUBLISHED if artifacts else PurificationStatus.NOT_NEEDED
    return Report(
        engine=EngineInfo(version=ENGINE_VERSION, torch="2", threads=1, device="cpu"),
        config_digest=ScanConfig.from_json(claim.config).digest,
        preset=Preset(claim.config["preset"]),
        purify=PurifyMode(claim.config["purify"]),
        seed=claim.config["seed"],
        model=ModelInfo(
            sha256=claim.model_sha256,
            filename=claim.model_filename,
            size_bytes=1,
            container="safetensors",
            kind="classifier",
            architecture="preactresnet18",
            architecture_source="inferred",
            num_classes=10,
            input_shape=(1, 28, 28),
            parameters=1000,
            preprocess=PreprocessInfo(mean=[0.0], std=[1.0], size=(28, 28), source="request"),
        ),
        reference_set=None
        if claim.reference_sha256 is None
        else ReferenceInfo(
            sha256=claim.reference_sha256, images=400, images_used=400, labelled=True, classes_present=10
        ),
        utility=Utility(measure="accuracy", images=100, before=0.9),
        detection=detection,
        purification=Purification(
            status=status,
            utility=Utility(measure="accuracy", images=100, before=0.9, after=0.89),
            verification=Verification(
                detection=clean, passed=True, inverted_flip_before=0.95, inverted_flip_after=0.02, reattack=[]
            )
            if artifacts
            else None,
        ),
        artifacts=artifacts,
        timings=[],
    )


def settings_in(folder: Path, **changes: Any) -> Settings:
    """Settings of a deployment in `folder` whose broker is away and whose database is migrated."""
    folder.mkdir(parents=True, exist_ok=True)
    with fresh_database("sqlite", folder):
        pass
    values: dict[str, Any] = {
        "data_dir": folder,
        "broker_url": "redis://127.0.0.1:1/0",
        "free_space_reserve_bytes": 0,
        "max_upload_bytes": 8 * MIB,
    }
    return Settings(**{**values, **changes})


@contextmanager
def app_client(folder: Path, **changes: Any) -> Iterator[tuple[TestClient, Harness]]:
    """The app in process; the client sends a key that may do everything."""
    app = create_app(settings_in(folder, **changes))
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        harness = _harness(app.state.services)
        client.headers.update(harness.bearer)
        yield client, harness


@dataclass
class LiveServer:
    """A real server; `address` is its base address."""

    address: str
    port: int
    harness: Harness

    def connect(self) -> socket.socket:
        """A raw connection, for what a well-behaved client would never send."""
        return socket.create_connection(("127.0.0.1", self.port), 10)


@contextmanager
def live_server(folder: Path, **changes: Any) -> Iterator[LiveServer]:
    """The app behind uvicorn, as `assay serve` runs it, in a thread."""
    app = create_app(settings_in(folder, **changes))
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, http="httptools", log_config=None, access_log=False, timeout_graceful_shutdown=5
    )
    server = uvicorn.Server(config)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = int(bound.getsockname()[1])
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        deadline = time.monotonic() + 20
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.01)
        try:
            yield LiveServer(f"http://127.0.0.1:{port}", port, _harness(app.state.services))
        finally:
            server.should_exit = True
            thread.join(20)


def _harness(services: Services) -> Harness:
    plaintext, _ = services.keys.create(DEFAULT_ORG, "test", ALL_SCOPES)
    return Harness(services, plaintext)


def upload(client: TestClient, data: bytes) -> str:
    """PUT `data`; its digest."""
    digest = sha256(data)
    answer = client.put(f"/v1/blobs/{digest}", content=data)
    assert answer.status_code in (200, 201), answer.text
    return digest


def submit(client: TestClient, model: bytes = b"model", reference: bytes | None = b"reference", **options: Any) -> Any:
    """Upload both files and submit a scan; the scan."""
    body = {
        "model": {"blob": upload(client, model), "filename": "model.pth"},
        "reference_set": None if reference is None else {"blob": upload(client, reference)},
        **options,
    }
    answer = client.post("/v1/scans", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()


def temp_files(harness: Harness) -> list[Path]:
    """What unfinished uploads have left in the store."""
    return list((harness.services.settings.blobs_dir / "tmp").iterdir())


def is_problem(answer: Any, status: int, code: str | None = None) -> dict[str, Any]:
    """Assert that `answer` is a problem document of that status and code; the document."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["type"] == f"urn:assay:problem:{document['code']}"
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    if code is not None:
        assert document["code"] == code, document
    return dict(document)
