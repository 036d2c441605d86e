"""The whole machinery on Redis and PostgreSQL: two worker processes and a sweeper share six scans, one worker is
killed in the middle, and each scan is done once."""

import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.config import InversionConfig, ScanConfig, UnlearningConfig
from core.domain import JobState, Preset, PurifyMode
from tests.support.jobs import ORG, QUICK, Desk, desk
from tests.support.postgres import shared_postgres
from tests.support.processes import assay_environment, start_assay, stop, wait_until
from tests.support.redis import RedisServer, start_redis
from worker.app import make_app
from worker.dispatch import CeleryDispatcher, publish_after_commit

pytestmark = pytest.mark.services

SCANS = 6


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with start_redis() as server:
        yield server


def claims_of(office: Desk, scan: str) -> list[int]:
    """Process ids of the workers that claimed the scan, in order."""
    events = office.service.events(ORG, scan)
    return [int(e.payload["owner"].split(":")[1]) for e in events if e.payload["event"] == "claimed"]


def run_six(
    office: Desk, redis: RedisServer, scans: list[str], folder: Path, *, fake: bool, limit_s: float, **quick: Any
) -> None:
    """Start the processes, announce the scans, kill the worker of the first one that computes, check everything."""
    environment = assay_environment(
        data_dir=folder, database_url=office.settings.database_url, broker_url=redis.url, **{**QUICK, **quick}
    )
    log = folder / "processes.log"
    workers = [start_assay("worker", environment, log, fake=fake) for _ in range(2)]
    sweeper = start_assay("sweep", environment, log, fake=fake)
    try:
        bell = CeleryDispatcher(make_app(redis.url, publisher=True))
        for scan in scans:
            assert publish_after_commit(office.service, bell, scan)
            bell.publish(scan)  # and a duplicate of each message

        computing: list[str] = []

        def found() -> bool:
            computing.extend(scan for scan in scans if office.view(scan).stage == "inverting")
            return bool(computing)

        wait_until(found, limit_s, "a scan that computes")
        victim = computing[0]
        killed = next(worker for worker in workers if worker.pid == claims_of(office, victim)[-1])
        stop(killed, signal.SIGKILL)

        views = [office.wait(scan, timeout_s=limit_s) for scan in scans]
        assert [(view.state, view.error) for view in views] == [(JobState.SUCCEEDED, None)] * SCANS
        assert office.view(victim).attempt == 2
        survivor = next(worker for worker in workers if worker is not killed)
        assert claims_of(office, victim) == [killed.pid, survivor.pid]
        for scan in scans:
            view, claims = office.view(scan), claims_of(office, scan)
            assert view.attempt == len(claims) == (2 if scan == victim else 1)
            assert view.verdict is not None
            assert office.service.report(ORG, scan)["model"]["sha256"] == view.model_sha256
            for artifact in view.artifacts:
                office.store.open_verified(artifact.sha256).close()
        assert stop(survivor) == 0
        assert stop(sweeper) == 0
        wait_until(lambda: office.left_overs() == [], 5)
    finally:
        still = [process for process in (*workers, sweeper) if process.poll() is None]
        end(still)
        print(log.read_text())


def end(processes: "list[subprocess.Popen[bytes]]") -> None:
    for process in processes:
        stop(process, signal.SIGKILL)


def test_six_scans_two_workers_one_killed(tmp_path: Path, redis: RedisServer) -> None:
    with desk(tmp_path, database_url=shared_postgres().create_database()) as office:
        scans = [office.submit(stages={"inverting": 3.0 if i < 2 else 0.3}) for i in range(SCANS)]
        run_six(office, redis, scans, tmp_path, fake=True, limit_s=60)
        for scan in scans:
            assert len(office.logged("finished", scan)) == 1
            assert len(office.view(scan).artifacts) == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_six_real_scans_two_workers_one_killed(tmp_path: Path, redis: RedisServer) -> None:
    from tests.support.checkpoints import reference_zip, save, tiny_network

    config = ScanConfig(
        preset=Preset.FAST,
        purify=PurifyMode.ALWAYS,
        inversion=InversionConfig(restarts=1, batch_size=16, screen_steps=2, refine_steps=4, survivors=1),
        unlearning=UnlearningConfig(rounds=1, steps=4, batch_size=16),
    )
    with desk(tmp_path, database_url=shared_postgres().create_database()) as office:
        pictures = reference_zip(tmp_path / "reference.zip", 40, lambda i: f"{i}.png")
        reference = office.upload(pictures.read_bytes())
        scans = []
        for seed in range(SCANS):
            model = save(
                tiny_network("preactresnet-b1-w8", num_classes=3, seed=seed).state_dict(),
                tmp_path / f"model{seed}",
                "safetensors",
            )
            scans.append(office.submit_blob(office.upload(model.read_bytes()), model.name, reference, config))
        run_six(office, redis, scans, tmp_path, fake=False, limit_s=400, lease_s=6, renew_s=1, republish_s=20)
        assert all(office.view(scan).purification_status is not None for scan in scans)
