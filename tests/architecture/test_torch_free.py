"""The torch-free zone: the API starts fast and small because nothing in it imports torch."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TORCH_FREE = [
    "domain",
    "errors",
    "config",
    "context",
    "plugins",
    "settings",
    "report",
    "policy",
    "storage",
    "registry",
    "jobs",
    "hub",
    "manifest",
    "models/safety",
]


def torch_free_modules() -> list[str]:
    files = [*ROOT.glob("api/**/*.py"), *ROOT.glob("worker/*.py")]
    for name in TORCH_FREE:
        files += [*ROOT.glob(f"core/{name}.py"), *ROOT.glob(f"core/{name}/**/*.py")]
    modules = {".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for f in files}
    return sorted(m for m in modules if not m.startswith("worker.child_"))


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)


def test_no_module_of_the_zone_imports_torch() -> None:
    modules = torch_free_modules()
    assert len(modules) > 40
    lines = "\n".join(f"import {m}" for m in modules)
    done = run(f"import sys\n{lines}\nassert 'torch' not in sys.modules, 'torch was imported'")
    assert done.returncode == 0, done.stderr


def test_the_zone_check_can_fail() -> None:
    done = run("import sys, core.pipeline\nassert 'torch' not in sys.modules, 'torch was imported'")
    assert "torch was imported" in done.stderr


def test_create_app_is_small(tmp_path: Path) -> None:
    """Below 150 MB; the time is measured by benchmarks/startup.py, not asserted on a machine that may be busy."""
    done = run(
        "import os, psutil\n"
        f"os.environ['ASSAY_DATA_DIR'] = {str(tmp_path)!r}\n"
        "from api.app import create_app\n"
        "create_app()\n"
        "print(psutil.Process().memory_info().rss)"
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 150e6


def test_the_child_that_looks_through_images_needs_no_torch() -> None:
    done = run("import sys, worker.child_reference\nassert 'torch' not in sys.modules, 'torch was imported'")
    assert done.returncode == 0, done.stderr
