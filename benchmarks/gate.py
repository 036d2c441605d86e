"""The gate on a large file, beside a SHA-256 of the same file: seconds, and anonymous memory.

    python benchmarks/gate.py [--gigabytes 2] [--folder /tmp]

Each measurement is a fresh process; its memory is looked at every few milliseconds from outside. The parsing process
goes on after the gate: "values" is the gate and a look at every number, "checked" the same and the weights written for
the computing process. Those two import torch.
"""

import argparse
import json
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
_TENSOR = 64 << 20
_FRAME = "import sys, time; sys.path.insert(0, {root!r}); from pathlib import Path; path = Path({path!r})\n"
_MEASURED = {
    "sha256": "import hashlib\n"
    "t = time.perf_counter()\n"
    "with path.open('rb') as file: hashlib.file_digest(file, 'sha256')\n",
    "gate": "from core.models.safety import check_file\n"
    "t = time.perf_counter(); facts = check_file(path, path.name)\n"
    "assert 'torch' not in sys.modules\n",
    "values": "from core.models.formats import read_checkpoint\n"
    "from core.models.tensor_checks import check_tensors\n"
    "t = time.perf_counter(); check_tensors(read_checkpoint(path, path.name).content)\n",
    "checked": "from core.models.formats import read_checkpoint\n"
    "from core.models.tensor_checks import check_tensors\n"
    "from safetensors.torch import save_file\n"
    "t = time.perf_counter(); raw = read_checkpoint(path, path.name)\n"
    "check_tensors(raw.content); save_file(raw.content, str(path.parent / 'written'))\n",
}


def write_safetensors(path: Path, size: int) -> None:
    """A file of `size` bytes of small float32 numbers in tensors of 64 MiB."""
    count = size // _TENSOR
    header = {
        f"layers.{i}.weight": {"dtype": "F32", "shape": [4096, 4096], "data_offsets": [i * _TENSOR, (i + 1) * _TENSOR]}
        for i in range(count)
    }
    text = json.dumps(header).encode()
    block = struct.pack("<1024f", *((i % 251) / 251 - 0.5 for i in range(1024))) * (_TENSOR // 4096)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for i in range(count):
            file.write(struct.pack("<f", i) + block[4:])


def write_torch(path: Path, source: Path) -> None:
    """The same tensors as torch.save writes them."""
    code = "import sys, torch, safetensors.torch as s; torch.save(s.load_file(sys.argv[1]), sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, str(source), str(path)], check=True)


def measure(what: str, path: Path) -> tuple[float, float]:
    """(seconds, largest anonymous memory in MB) of one process."""
    code = _FRAME.format(root=str(ROOT), path=str(path)) + _MEASURED[what] + "print(time.perf_counter() - t)"
    process = subprocess.Popen([sys.executable, "-I", "-c", code], stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
        except OSError:
            break
        peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))])
        time.sleep(0.005)
    out, _ = process.communicate()
    assert process.returncode == 0
    return float(out), peak / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=2)
    parser.add_argument("--folder", type=Path, default=None)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        safe, torch_file = Path(name) / "model.safetensors", Path(name) / "model.pth"
        write_safetensors(safe, int(arguments.gigabytes * 1e9))
        write_torch(torch_file, safe)
        for path in (safe, torch_file):
            measure("sha256", path)  # brings the file into the page cache
            base, memory = measure("sha256", path)
            print(f"{path.name}: {path.stat().st_size / 1e9:.2f} GB")
            print(f"  sha256   {base:7.3f} s  {memory:6.0f} MB")
            for what in ("gate", "values", "checked"):
                seconds, memory = measure(what, path)
                print(f"  {what:8} {seconds:7.3f} s  {memory:6.0f} MB  {seconds / base:.3f} x sha256")


if __name__ == "__main__":
    main()
