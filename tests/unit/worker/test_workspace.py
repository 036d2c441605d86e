import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from worker.workspace import job_folder, remove_left_overs, work_root


def test_a_job_folder_is_private_fresh_and_gone_afterwards(tmp_path: Path) -> None:
    root = work_root(tmp_path)
    with job_folder(root, "scan_a", 1) as first, job_folder(root, "scan_a", 1) as second:
        assert first != second
        assert first.parent == root
        assert first.name.startswith("scan_a-1-")
        assert first.stat().st_mode & 0o777 == 0o700
        (first / "x").mkdir()
        (first / "x" / "y").write_text("z")
    assert list(root.iterdir()) == []


def test_it_is_gone_after_an_error_and_whatever_modes_a_child_left(tmp_path: Path) -> None:
    def fail_in_folder() -> None:
        with job_folder(tmp_path, "scan_a", 1) as folder:
            locked = folder / "locked"
            locked.mkdir()
            (locked / "file").write_text("x")
            locked.chmod(0)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_in_folder()
    assert list(tmp_path.iterdir()) == []


def test_a_scan_id_is_never_a_path(tmp_path: Path) -> None:
    with job_folder(tmp_path / "work", "../../x", 1) as folder:
        assert folder.parent == tmp_path / "work"


def test_a_sweep_leaves_folders_in_use_alone(tmp_path: Path) -> None:
    with job_folder(tmp_path, "scan_a", 1) as folder:
        assert remove_left_overs(tmp_path) == 0
        assert folder.is_dir()


def test_a_sweep_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from worker.workspace import job_folder\n"
        f"with job_folder(Path({str(tmp_path)!r}), 'scan_a', 1) as f:\n"
        "    (f / 'big').write_text('x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    assert remove_left_overs(tmp_path) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_follows_no_links(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    root = tmp_path / "work"
    root.mkdir()
    os.symlink(outside, root / "scan_a-1-0")
    assert remove_left_overs(root) == 0
    assert (outside / "precious").exists()


def test_no_root_is_nothing_to_sweep(tmp_path: Path) -> None:
    assert remove_left_overs(tmp_path / "absent") == 0


def test_a_sweep_at_any_moment_takes_no_folder_away_from_its_owner(tmp_path: Path) -> None:
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            remove_left_overs(tmp_path)

    thread = threading.Thread(target=sweep)
    thread.start()
    try:
        for attempt in range(200):
            with job_folder(tmp_path, "scan_a", attempt) as folder:
                (folder / "file").write_text("x")
                assert (folder / "file").exists()
    finally:
        stop.set()
        thread.join()
