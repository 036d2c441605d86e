"""What the interpreter does while it parses hostile files: nothing but reading them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def audited(*arguments: str) -> dict[str, Any]:
    end = subprocess.run(
        [sys.executable, "-m", "tests.support.audited", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert end.returncode == 0, end.stderr
    found: dict[str, Any] = json.loads(end.stdout.splitlines()[-1])
    return found


def test_nothing_is_executed_imported_started_or_connected_to() -> None:
    found = audited("--show-that-it-sees")
    assert len(found["seen"]) == 2, found["seen"]  # compile and exec of our own at the end: the hook works
    assert found["seen"][0].startswith("compile")
    assert found["seen"][1].startswith("exec")
    assert (found["fired"], found["canary"]) == (0, False)
    assert found["outcomes"].pop("accepted") == 1
    assert sum(found["outcomes"].values()) > 250
    assert found["outcomes"]["unsafe_pickle_globals"] > 80
